// mayfly host: one command in an emulated Linux host that has a working /dev/kvm.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/spec.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/emulated_host.h"
#include "cli/guest_command.h"
#include "cli/output.h"

namespace mayfly::cli {
namespace {

constexpr const char* kFooter =
    "The command sees this machine's files, in the same places, and runs in the same directory with the same\n"
    "environment. What it writes goes with the host, except below the directories of --share. Everything is emulated,\n"
    "so expect a tenth of the usual speed; what is right in there is right with KVM.\n\n"
    "Examples:\n"
    "  mayfly host -- ls -l /dev/kvm\n"
    "  mayfly host --share results -- ./run-kvm-tests --report results/kvm.xml\n"
    "  mayfly host -it -- bash\n\n"
    "Exit codes: the command's; 128 + N when signal N ended it; 124 when --timeout did; 125 when mayfly failed.";

struct Flags {
  std::optional<std::string> cpus{};
  std::optional<std::string> memory{};
  std::optional<std::string> hugepages{};
  std::vector<std::string> shares{};
  bool iommu = false;
  CommandFlags command{};
};

EmulatedHostOptions OptionsOf(const Flags& flags) {
  EmulatedHostOptions options;
  if (flags.cpus) options.cpus = ReadCount("--cpus", *flags.cpus);
  if (flags.memory) options.memory = ReadSize("--memory", *flags.memory);
  if (flags.hugepages) options.hugepages = ReadSize("--hugepages", *flags.hugepages);
  if (options.hugepages * 2 > options.memory) {
    throw BadSpec({.summary = fmt::format("host: --hugepages: {} is more than half of its memory ({})",
                                          ToString(options.hugepages), ToString(options.memory)),
                   .next_step = "give it more by --memory"});
  }
  options.iommu = flags.iommu;
  for (const std::string& share : flags.shares) options.shares.emplace_back(share);
  return options;
}

int Run(const Flags& flags, const std::optional<std::vector<std::string>>& words) {
  if (!words || words->empty()) {
    throw BadSpec({.summary = "host: the command is missing",
                   .next_step = "mayfly host -- ls -l /dev/kvm, or mayfly host -it -- sh for a shell"});
  }
  if (!flags.command.user.empty()) {
    throw BadSpec({.summary = fmt::format("host: --user: \"{}\": commands begin as root here", flags.command.user),
                   .next_step = "put setpriv or su into the command"});
  }
  GuestCommand command = CommandOf("host", flags.command, *words);
  std::filesystem::path directory = command.options.working_directory;
  if (directory.empty()) directory = std::filesystem::current_path();
  command.options.working_directory.clear();
  command.words = InEmulatedHost(command.words, directory);
  command.options.environment.merge(EnvironmentInEmulatedHost());  // --env wins
  EmulatedHostOptions options = OptionsOf(flags);
  Validate(SpecOfEmulatedHost(options), "host");
  return RunInVm(command, [&](const Progress& progress) { return BootEmulatedHost(options, progress); });
}

}  // namespace

void AddHost(CLI::App& app, const std::optional<std::vector<std::string>>& words, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& host = *app.add_subcommand("host", "Run a command in an emulated host that has KVM");
  host.footer(kFooter);
  host.add_option("--cpus", flags->cpus, "Number of CPUs (2)")->type_name("N");
  host.add_option("--memory", flags->memory, "Memory, such as 4G (2G)")->type_name("SIZE");
  host.add_option("--hugepages", flags->hugepages, "Of its memory, so much in huge pages of 2 MiB, such as 512M")
      ->type_name("SIZE");
  host.add_option("--share", flags->shares, "Directory that the command may write to (repeatable)")
      ->type_name("DIR")
      ->allow_extra_args(false);
  host.add_flag("--iommu", flags->iommu, "Give it an IOMMU, and a device to pass on: MAYFLY_VFIO_DEVICE names it");
  AddCommandFlags(host, flags->command);
  host.callback([flags, &words, &chosen] { chosen = [flags, words] { return Run(*flags, words); }; });
}

}  // namespace mayfly::cli
