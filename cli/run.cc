// mayfly run: a fresh VM for one command.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/console_log.h>
#include <mayfly/vm.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/guest_command.h"
#include "cli/output.h"
#include "cli/run_spec.h"

namespace mayfly::cli {
namespace {

constexpr const char* kFooter =
    "The guest's standard output and error are passed on live and apart, standard input goes to the guest unless it "
    "is\n"
    "a terminal (then with -i). The VM is gone when the command is, and on Ctrl-C.\n\n"
    "Examples:\n"
    "  mayfly run -- uname -a\n"
    "  mayfly run -it -- sh                                     a shell in a fresh VM\n"
    "  mayfly run --copy build/kv:/usr/bin/ -- kv --self-test   a program of yours, as root in a kernel of its own\n"
    "  mayfly run --image debian --memory 1G -- systemctl --failed\n"
    "  tar c src | mayfly run -- sh -c 'tar x && ls src' > listing\n\n"
    "Exit codes: the command's; 128 + N when signal N ended it; 124 when --timeout did; 125 when mayfly failed (no "
    "VM,\n"
    "wrong command line, no such program in the guest).";

struct Flags {
  SpecFlags spec{};
  std::vector<std::string> copies{};
  CommandFlags command{};
  bool console = false;
};

// What the flags say, read before anything is started.
struct Plan {
  MachineSpec spec{};
  std::vector<Copy> copies{};
  GuestCommand command{};
};

Plan PlanOf(const Flags& flags, const std::optional<std::vector<std::string>>& words) {
  if (!words || words->empty()) {
    throw BadSpec({.summary = "run: the command for the guest is missing",
                   .next_step = "mayfly run -- uname -a, or mayfly run -it -- sh for a shell"});
  }
  GuestCommand command = CommandOf("run", flags.command, *words);
  Plan plan{.spec = SpecOf(flags.spec), .copies = {}, .command = std::move(command)};
  for (const std::string& copy : flags.copies) plan.copies.push_back(ReadCopy(copy));
  return plan;
}

int Run(const Flags& flags, const std::optional<std::vector<std::string>>& words) {
  Plan plan = PlanOf(flags, words);
  std::optional<internal::ConsoleLog> console;
  return RunInVm(plan.command, [&](const Progress& progress) {
    progress("choose a backend and an image");
    Vm vm = Vm::Create(plan.spec, progress);
    if (flags.console) console.emplace(vm.machine().console_path(), [](std::string_view line) { Complain(line); });
    progress("boot " + vm.name());
    vm.Boot();
    for (const Copy& copy : plan.copies) {
      progress(fmt::format("copy {} to {}", copy.from.string(), copy.to));
      vm.Upload(copy.from, copy.to);
    }
    return vm;
  });
}

}  // namespace

void AddRun(CLI::App& app, const std::optional<std::vector<std::string>>& words, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& run = *app.add_subcommand("run", "Run one command in a fresh VM");
  run.footer(kFooter);
  run.add_option("--image", flags->spec.image, "Guest image, see mayfly image list (tiny)")->type_name("NAME");
  run.add_option("--cpus", flags->spec.cpus, "Number of CPUs (1)")->type_name("N");
  run.add_option("--memory", flags->spec.memory, "Memory, such as 512M (256M)")->type_name("SIZE");
  run.add_option("--driver", flags->spec.driver, "Backend; by default the first that works here")->type_name("NAME");
  run.add_option("--spec", flags->spec.file, "Spec of the VM as JSON; other flags change it")->type_name("FILE");
  run.add_option("--kernel", flags->spec.kernel, "Kernel instead of the image's")->type_name("FILE");
  run.add_option("--initramfs", flags->spec.initramfs, "Initramfs instead of the image's")->type_name("FILE");
  run.add_option("--append", flags->spec.append, "More words for the kernel's command line")->type_name("TEXT");
  run.add_option("--disk", flags->spec.disks, "Disk image; the guest writes to a private clone (repeatable)")
      ->type_name("FILE")
      ->allow_extra_args(false);
  run.add_option("--copy", flags->copies, "Copy a file or directory into the guest first (repeatable)")
      ->type_name("HOST:GUEST")
      ->allow_extra_args(false);
  AddCommandFlags(run, flags->command);
  run.add_flag("--console", flags->console, "Show the guest's console on standard error");
  run.callback([flags, &words, &chosen] { chosen = [flags, words] { return Run(*flags, words); }; });
}

}  // namespace mayfly::cli
