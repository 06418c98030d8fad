#include "cli/guest_command.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/sandbox.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "cli/arguments.h"
#include "cli/guest_streams.h"
#include "cli/output.h"
#include "cli/status_line.h"
#include "cli/terminal.h"

namespace mayfly::cli {
namespace {

// Tells what took the guest's output no more. Returns the exit code for it.
int OutputFailed(int error) {
  if (error == EPIPE) return kSignalled + SIGPIPE;  // as a program that SIGPIPE ended: silently
  Complain("mayfly: cannot write the guest's output: " + std::generic_category().message(error));
  return kRunFailed;
}

int Run(Vm& vm, const GuestCommand& command) {
  OutputStreams output;
  StartOptions options = command.options;
  options.on_output = [&output](Stream stream, std::string_view bytes) { output.Write(stream, bytes); };
  TerminalSize size = SizeOfTerminal(STDIN_FILENO);
  options.rows = size.rows;
  options.columns = size.columns;

  GuestProcess process = vm.Start(command.words, options);
  std::optional<RawTerminal> raw;
  if (options.terminal && options.open_stdin) raw.emplace(STDIN_FILENO);
  InputStreams input(process, output, {.standard_input = options.open_stdin, .window_size = options.terminal});
  ExecResult result;
  try {
    result = process.Wait(command.timeout);
  } catch (const Timeout&) {
    result.timed_out = true;
    output.Stop();
    vm.Kill();  // not the command: a guest that hangs may hold it
  }
  input.Stop();
  raw.reset();
  if (output.failure() != 0) return OutputFailed(output.failure());
  if (result.timed_out) {
    Complain(
        fmt::format("mayfly: {} was ended by --timeout after {}", command.words.front(), ForPeople(command.timeout)));
    return kRunTimedOut;
  }
  return result.signal != 0 ? kSignalled + result.signal : result.exit_code;
}

}  // namespace

void AddCommandFlags(CLI::App& app, CommandFlags& flags) {
  app.add_option("--env", flags.variables, "Environment variable of the command (repeatable)")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  app.add_option("--user", flags.user, "User in the guest, by name or number (root)")->type_name("USER");
  app.add_option("--workdir", flags.directory, "Working directory of the command (/)")->type_name("DIR");
  app.add_option("--timeout", flags.timeout, "End the command after this time, such as 90s (never)")->type_name("TIME");
  app.add_flag("-i,--interactive", flags.interactive, "Pass standard input on even if it is a terminal");
  app.add_flag("-t,--terminal", flags.terminal, "Give the command a terminal");
  app.add_flag("-v,--verbose", flags.verbose, "Tell each step and its time on standard error");
}

GuestCommand CommandOf(std::string_view subcommand, const CommandFlags& flags, std::vector<std::string> words) {
  bool input_is_terminal = isatty(STDIN_FILENO) != 0;
  if (flags.terminal && flags.interactive && !input_is_terminal) {
    throw BadSpec({.summary = fmt::format("{}: -t with -i needs a terminal as standard input", subcommand),
                   .next_step = "leave -t out: the guest reads what is piped in"});
  }
  GuestCommand command{.words = std::move(words), .verbose = flags.verbose};
  for (const std::string& variable : flags.variables) command.options.environment.insert(ReadVariable(variable));
  command.options.user = flags.user;
  command.options.working_directory = flags.directory;
  command.options.open_stdin = flags.interactive || !input_is_terminal;
  command.options.terminal = flags.terminal;
  if (flags.terminal) {
    const char* type = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
    if (type != nullptr) command.options.environment.emplace("TERM", type);
  }
  if (flags.timeout) command.timeout = ReadDuration("--timeout", *flags.timeout);
  return command;
}

int RunInVm(const GuestCommand& command, const std::function<Vm(const Progress& progress)>& bring_up) {
  // Lives as long as the process: a signal clears it on a thread of its own.
  static StatusLine& status = *new StatusLine(StatusLine::ModeFor(command.verbose));
  CleanUpOnSignals([](int) {
    status.Clear();
    RestoreTerminal();
  });
  try {
    Vm vm = bring_up([](std::string_view step) { status.Step(step); });
    MachineInfo info = vm.machine().Info();
    status.Step(fmt::format("run {} ({}, {}, {})", command.words.front(), info.vmm, info.machine, info.accelerator));
    status.Clear();
    int code = Run(vm, command);
    status.Step("remove the VM");
    vm.Kill();
    status.Clear();
    return code;
  } catch (...) {
    status.Clear();
    throw;
  }
}

}  // namespace mayfly::cli
