// mayfly resume: a VM that was frozen, brought back for a look into it.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/vm.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <utility>

#include "cli/commands.h"
#include "cli/guest_command.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFooter =
    "With MAYFLY_FREEZE=on-failure in the environment of the tests, each VM of a failed test is saved; the test's "
    "output\n"
    "names the folder. The VM goes on where it was saved, in a copy: what is done to it is lost at the end, and the\n"
    "folder can be resumed again. It may have been copied from another machine; the version of the VMM must be the "
    "same.\n\n"
    "Examples:\n"
    "  mayfly resume mayfly-artifacts/KeyValueStore.SurvivesPowerLoss               a shell\n"
    "  mayfly resume mayfly-artifacts/KeyValueStore.SurvivesPowerLoss -- dmesg      one command\n"
    "  scp -r ci:build/mayfly-artifacts/Raft.ElectsALeader . && mayfly resume Raft.ElectsALeader/node1\n\n"
    "Exit codes: as of mayfly run.";

struct Flags {
  std::string directory{};
  CommandFlags command{};
};

// The folder of a failed test holds its first VM in frozen/.
fs::path SnapshotIn(const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error)) {
    throw BadSpec({.summary = fmt::format("resume: there is no directory {}", directory),
                   .next_step = "give the folder that the output of the failed test names, beside [ FROZEN ]"});
  }
  fs::path within = fs::path(directory) / "frozen";
  return fs::exists(within, error) ? within : fs::path(directory);
}

int Resume(Flags flags, std::optional<std::vector<std::string>> words) {
  if (words && words->empty()) {
    throw BadSpec({.summary = "resume: the command for the guest is missing after \"--\"",
                   .next_step = "leave \"--\" out for a shell"});
  }
  if (!words) {
    words = {"/bin/sh"};
    flags.command.terminal |= isatty(STDIN_FILENO) != 0;
    flags.command.interactive = true;
  }
  GuestCommand command = CommandOf("resume", flags.command, std::move(*words));
  fs::path snapshot = SnapshotIn(flags.directory);
  return RunInVm(command, [&](const Progress& progress) {
    progress(fmt::format("bring {} back", snapshot.string()));
    return Vm::Resume(snapshot);
  });
}

}  // namespace

void AddResume(CLI::App& app, const std::optional<std::vector<std::string>>& words, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& resume = *app.add_subcommand("resume", "Get a shell in a VM that a failed test left frozen");
  resume.footer(kFooter);
  resume.add_option("DIR", flags->directory, "Folder of the failed test's VM")->required();
  AddCommandFlags(resume, flags->command);
  resume.callback([flags, &words, &chosen] { chosen = [flags, words] { return Resume(*flags, words); }; });
}

}  // namespace mayfly::cli
