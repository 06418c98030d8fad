// A command for a guest, as `mayfly run` and `mayfly resume` take it: its flags, its streams, its exit code.
//
//   GuestCommand command = CommandOf("run", flags, {"uname", "-a"});
//   return RunInVm(command, [&](const Progress& progress) { … return Vm::Boot(spec); });
#pragma once

#include <mayfly/exec.h>
#include <mayfly/image.h>
#include <mayfly/vm.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"

namespace mayfly::cli {

struct CommandFlags {
  std::vector<std::string> variables{};
  std::string user{};
  std::string directory{};
  std::optional<std::string> timeout{};
  bool interactive = false;
  bool terminal = false;
  bool verbose = false;
};
void AddCommandFlags(CLI::App& app, CommandFlags& flags);

struct GuestCommand {
  std::vector<std::string> words{};
  StartOptions options{};
  Duration timeout = Duration::max();
  bool verbose = false;
};

// Throws BadSpec that names the flag. `subcommand`: who has these flags, for messages.
GuestCommand CommandOf(std::string_view subcommand, const CommandFlags& flags, std::vector<std::string> words);

// Brings a VM up by `bring_up`, runs the command in it and removes it; all of that on a signal, too. Returns the exit
// code: the command's, or one of kSignalled, kRunTimedOut, kRunFailed (commands.h).
int RunInVm(const GuestCommand& command, const std::function<Vm(const Progress& progress)>& bring_up);

}  // namespace mayfly::cli
