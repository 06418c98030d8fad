// mayfly run: a fresh VM for one command.
#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/console_log.h>
#include <mayfly/sandbox.h>
#include <mayfly/vm.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <system_error>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/guest_streams.h"
#include "cli/output.h"
#include "cli/run_spec.h"
#include "cli/status_line.h"
#include "cli/terminal.h"

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
  std::vector<std::string> variables{};
  std::string user{};
  std::string directory{};
  std::optional<std::string> timeout{};
  bool interactive = false;
  bool terminal = false;
  bool verbose = false;
  bool console = false;
};

// What the flags say, read before anything is started.
struct Plan {
  MachineSpec spec{};
  std::vector<std::string> command{};
  std::vector<Copy> copies{};
  StartOptions options{};
  Duration timeout = Duration::max();
};

Plan PlanOf(const Flags& flags, const std::optional<std::vector<std::string>>& words) {
  if (!words || words->empty()) {
    throw BadSpec({.summary = "run: the command for the guest is missing",
                   .next_step = "mayfly run -- uname -a, or mayfly run -it -- sh for a shell"});
  }
  bool input_is_terminal = isatty(STDIN_FILENO) != 0;
  if (flags.terminal && flags.interactive && !input_is_terminal) {
    throw BadSpec({.summary = "run: -t with -i needs a terminal as standard input",
                   .next_step = "leave -t out: the guest reads what is piped in"});
  }
  Plan plan{.spec = SpecOf(flags.spec), .command = *words};
  for (const std::string& copy : flags.copies) plan.copies.push_back(ReadCopy(copy));
  for (const std::string& variable : flags.variables) plan.options.environment.insert(ReadVariable(variable));
  plan.options.user = flags.user;
  plan.options.working_directory = flags.directory;
  plan.options.open_stdin = flags.interactive || !input_is_terminal;
  plan.options.terminal = flags.terminal;
  if (flags.terminal) {
    const char* type = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
    if (type != nullptr) plan.options.environment.emplace("TERM", type);
  }
  if (flags.timeout) plan.timeout = ReadDuration("--timeout", *flags.timeout);
  return plan;
}

// Tells what took the guest's output no more. Returns the exit code for it.
int OutputFailed(int error) {
  if (error == EPIPE) return kSignalled + SIGPIPE;  // as a program that SIGPIPE ended: silently
  Complain("mayfly: cannot write the guest's output: " + std::generic_category().message(error));
  return kRunFailed;
}

int RunCommand(Vm& vm, const Plan& plan) {
  OutputStreams output;
  StartOptions options = plan.options;
  options.on_output = [&output](Stream stream, std::string_view bytes) { output.Write(stream, bytes); };
  TerminalSize size = SizeOfTerminal(STDIN_FILENO);
  options.rows = size.rows;
  options.columns = size.columns;

  GuestProcess process = vm.Start(plan.command, options);
  std::optional<RawTerminal> raw;
  if (options.terminal && options.open_stdin) raw.emplace(STDIN_FILENO);
  InputStreams input(process, output, {.standard_input = options.open_stdin, .window_size = options.terminal});
  ExecResult result;
  try {
    result = process.Wait(plan.timeout);
  } catch (const Timeout&) {
    result.timed_out = true;
    output.Stop();
    vm.Kill();  // not the command: a guest that hangs may hold it
  }
  input.Stop();
  raw.reset();
  if (output.failure() != 0) return OutputFailed(output.failure());
  if (result.timed_out) {
    Complain(fmt::format("mayfly: {} was ended by --timeout after {}", plan.command.front(), ForPeople(plan.timeout)));
    return kRunTimedOut;
  }
  return result.signal != 0 ? kSignalled + result.signal : result.exit_code;
}

int Run(const Flags& flags, const std::optional<std::vector<std::string>>& words) {
  Plan plan = PlanOf(flags, words);
  // Lives as long as the process: a signal clears it on a thread of its own.
  static StatusLine& status = *new StatusLine(StatusLine::ModeFor(flags.verbose));
  CleanUpOnSignals([](int) {
    status.Clear();
    RestoreTerminal();
  });
  try {
    status.Step("choose a backend and an image");
    Vm vm = Vm::Create(plan.spec, [](std::string_view step) { status.Step(step); });
    std::optional<internal::ConsoleLog> console;
    if (flags.console) console.emplace(vm.machine().console_path(), [](std::string_view line) { Complain(line); });
    status.Step("boot " + vm.name());
    vm.Boot();
    MachineInfo info = vm.machine().Info();
    for (const Copy& copy : plan.copies) {
      status.Step(fmt::format("copy {} to {}", copy.from.string(), copy.to));
      vm.Upload(copy.from, copy.to);
    }
    status.Step(fmt::format("run {} ({}, {}, {})", plan.command.front(), info.vmm, info.machine, info.accelerator));
    status.Clear();
    int code = RunCommand(vm, plan);
    status.Step("remove the VM");
    vm.Kill();
    status.Clear();
    return code;
  } catch (...) {
    status.Clear();
    throw;
  }
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
  run.add_option("--env", flags->variables, "Environment variable of the command (repeatable)")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  run.add_option("--user", flags->user, "User in the guest, by name or number (root)")->type_name("USER");
  run.add_option("--workdir", flags->directory, "Working directory of the command (/)")->type_name("DIR");
  run.add_option("--timeout", flags->timeout, "End the command after this time, such as 90s (never)")
      ->type_name("TIME");
  run.add_flag("-i,--interactive", flags->interactive, "Pass standard input on even if it is a terminal");
  run.add_flag("-t,--terminal", flags->terminal, "Give the command a terminal");
  run.add_flag("-v,--verbose", flags->verbose, "Tell each step and its time on standard error");
  run.add_flag("--console", flags->console, "Show the guest's console on standard error");
  run.callback([flags, &words, &chosen] { chosen = [flags, words] { return Run(*flags, words); }; });
}

}  // namespace mayfly::cli
