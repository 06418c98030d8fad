// mayfly run with real guests: streams, exit codes, signals, terminals, and that nothing is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <csignal>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

std::vector<std::string> InGuest(const std::string& shell, std::vector<std::string> flags = {}) {
  std::vector<std::string> words = {"run", "--memory", "128M"};
  words.insert(words.end(), flags.begin(), flags.end());
  for (const std::string& word : {std::string("--"), std::string("sh"), std::string("-c"), shell})
    words.push_back(word);
  return words;
}

// --- Streams --------------------------------------------------------------------------------------------------------

TEST(RunStreams, ComeLiveAndApartAndTheInputGoesIn) {
  StartedMayfly mayfly(InGuest("echo one; echo two >&2; read word; echo got $word; cat >/dev/null; exit 7"),
                       {.open_input = true});
  EXPECT_TRUE(mayfly.WaitForOut("one\n"));
  EXPECT_TRUE(mayfly.WaitForErr("two\n"));
  mayfly.Type("hello\n");
  EXPECT_TRUE(mayfly.WaitForOut("got hello\n"));
  EXPECT_EQ(mayfly.process().Poll(), std::nullopt) << "it ended before its input did";
  mayfly.CloseInput();
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, 7);
  EXPECT_EQ(outcome.out, "one\ngot hello\n");
  EXPECT_EQ(outcome.err, "two\n");
  EXPECT_EQ(mayfly.Leftovers(), "");
}

TEST(RunStreams, ManyBytesArriveAsTheyWereSent) {
  std::string input;
  for (int i = 0; input.size() < 3'000'000; ++i) input += std::to_string(i) + std::string(1, static_cast<char>(i));
  Outcome outcome = RunMayfly(InGuest("cat"), {.input = input});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_TRUE(outcome.out == input) << outcome.out.size() << " bytes came back";
}

TEST(RunStreams, OutputThatCannotBeWrittenEndsTheCommand) {
  StartedMayfly mayfly(InGuest("yes"), {.out = "/dev/full"});
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, HasSubstr("cannot write the guest's output: No space left on device"));
  EXPECT_EQ(mayfly.Leftovers(), "");
}

// A pipe whose reader is there and does not read.
class StuckReader {
 public:
  explicit StuckReader(const std::filesystem::path& fifo) {
    if (mkfifo(fifo.c_str(), 0600) != 0) throw std::runtime_error("cannot make " + fifo.string());
    reader_.Reset(open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }

 private:
  internal::UniqueFd reader_;
};

TEST(RunStreams, AReaderThatDoesNotReadHoldsUpNeitherTheTimeoutNorASignal) {
  internal::TestDirectory directory;
  StuckReader reader(directory / "fifo");
  StartedMayfly timed(InGuest("yes", {"--timeout", "1s"}), {.out = directory / "fifo"});
  EXPECT_EQ(timed.Wait().status.code, kRunTimedOut);
  EXPECT_EQ(timed.Leftovers(), "");
  // The pipe is full by now. What stands behind output that cannot be written would wait with it, so this comes first.
  StartedMayfly interrupted(InGuest("echo running >&2; read word; exec yes"),
                            {.open_input = true, .out = directory / "fifo"});
  EXPECT_TRUE(interrupted.WaitForErr("running"));
  interrupted.Type("go\n");
  interrupted.process().Signal(SIGINT);
  EXPECT_EQ(interrupted.Wait().status.signal, SIGINT);
  EXPECT_EQ(interrupted.Leftovers(), "");
}

// --- Exit codes -----------------------------------------------------------------------------------------------------

TEST(RunExitCode, Is128MoreThanTheSignalThatEndedTheCommand) {
  EXPECT_EQ(RunMayfly(InGuest("kill -TERM $$")).status.code, kSignalled + SIGTERM);
}

TEST(RunExitCode, TellsThatMayflyFailedWhenThereIsNoSuchProgram) {
  Outcome outcome = RunMayfly({"run", "--", "no-such-program"});
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("no-such-program"), HasSubstr("No such file")));
}

TEST(RunExitCode, TellsThatTheTimeoutEndedIt) {
  StartedMayfly mayfly(InGuest("echo begun; sleep 1000", {"--timeout", "1s"}));
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, kRunTimedOut);
  EXPECT_EQ(outcome.out, "begun\n");
  EXPECT_EQ(outcome.err, "mayfly: sh was ended by --timeout after 1 s\n");
  EXPECT_EQ(mayfly.Leftovers(), "");
}

TEST(RunExitCode, TellsThatTheGuestWentDown) {
  Outcome outcome = RunMayfly(InGuest("echo o > /proc/sysrq-trigger; sleep 1000"));
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("the agent's channel was closed"), HasSubstr("the guest powered off")));
}

TEST(RunExitCode, TellsThatTheGuestDidNotComeUp) {
  StartedMayfly mayfly({"run", "--memory", "128M", "--append", "rdinit=/nothing init=/nothing", "--", "true"});
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("the guest panicked after"), HasSubstr("Kernel panic - not syncing")));
  EXPECT_EQ(mayfly.Leftovers(), "");
}

// --- What the flags do ----------------------------------------------------------------------------------------------

TEST(RunFlags, ReachTheGuest) {
  internal::TestDirectory directory;
  std::filesystem::create_directories(directory / "tree/below");
  internal::WriteWholeFile(directory / "tree/below/run.sh", "#!/bin/sh\necho $COLOUR $PWD $(id -u) $(nproc)\n", 0755);
  internal::WriteWholeFile(directory / "file", "of the host\n");
  Outcome outcome = RunMayfly(InGuest(
      "/opt/tree/below/run.sh; cat /srv/renamed",
      {"--copy", (directory / "tree").string() + ":/opt/", "--copy", (directory / "file").string() + ":/srv/renamed",
       "--env", "COLOUR=blue", "--workdir", "/usr", "--user", "1234", "--cpus", "2"}));
  EXPECT_EQ(outcome.out, "blue /usr 1234 2\nof the host\n");
  EXPECT_EQ(outcome.err, "");
}

TEST(RunFlags, ShowStepsAndConsoleOnStandardErrorWhenAsked) {
  Outcome outcome = RunMayfly(InGuest("echo result", {"-v", "--console"}));
  EXPECT_EQ(outcome.out, "result\n");
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("  boot tiny"), HasSubstr("VMRS_READY"), HasSubstr("  remove the VM")));
}

// --- Signals --------------------------------------------------------------------------------------------------------

struct Phase {
  std::string_view name;
  std::string_view told;  // on standard error, when the phase has begun
  int signal;
};
void PrintTo(const Phase& phase, std::ostream* out) { *out << phase.name; }

class RunSignalInPhase : public testing::TestWithParam<Phase> {};

TEST_P(RunSignalInPhase, EndsItAtOnceAndLeavesNothing) {
  internal::TestDirectory directory;
  internal::WriteWholeFile(directory / "large", std::string(32 << 20, 'x'));
  StartedMayfly mayfly(
      InGuest("echo in the guest >&2; sleep 1000", {"-v", "--copy", (directory / "large").string() + ":/tmp/"}));
  ASSERT_TRUE(mayfly.WaitForErr(GetParam().told)) << mayfly.err();
  mayfly.process().Signal(GetParam().signal);
  EXPECT_EQ(mayfly.Wait().status.signal, GetParam().signal);
  EXPECT_EQ(mayfly.Leftovers(), "");
}

INSTANTIATE_TEST_SUITE_P(, RunSignalInPhase,
                         testing::Values(Phase{"InterruptWhileItChooses", "choose a backend", SIGINT},
                                         Phase{"InterruptWhileItBoots", "boot tiny", SIGINT},
                                         Phase{"InterruptWhileItCopies", "copy /", SIGINT},
                                         Phase{"InterruptWhileItRuns", "in the guest", SIGINT},
                                         Phase{"TerminateWhileItRuns", "in the guest", SIGTERM},
                                         Phase{"HangUpWhileItRuns", "in the guest", SIGHUP},
                                         Phase{"KillWhileItBoots", "boot tiny", SIGKILL},
                                         Phase{"KillWhileItRuns", "in the guest", SIGKILL}),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(RunSignal, LeavesNothingButTheLogsOfTheDaemon) {
  for (int signal : {SIGINT, SIGKILL}) {
    StartedMayfly mayfly(InGuest("echo in the guest; sleep 1000"),
                         {.environment = {{"MAYFLY_POOL", "on"}, {"MAYFLY_POOL_IDLE", "1"}}});
    ASSERT_TRUE(mayfly.WaitForOut("in the guest")) << mayfly.err();
    mayfly.process().Signal(signal);
    EXPECT_EQ(mayfly.Wait().status.signal, signal);
    EXPECT_THAT(mayfly.Leftovers(), MatchesRegex("([^\n]*/rt/pool-[0-9a-f]+[.](start|log|out)\n)*"));
  }
}

TEST(ImageSignal, AnInterruptedBuildLeavesNoImageAndNoProcess) {
  internal::TestDirectory cache;
  StartedMayfly mayfly({"image", "build", "-v", "tiny"}, {.environment = {{"MAYFLY_CACHE_DIR", cache.path()}}});
  ASSERT_TRUE(mayfly.WaitForErr("image tiny: ")) << mayfly.err();
  mayfly.process().Signal(SIGINT);
  EXPECT_EQ(mayfly.Wait().status.signal, SIGINT);
  EXPECT_EQ(mayfly.Leftovers(), "");
  for (pid_t pid : internal::ProcessesThatKnow(cache.path().string(), {"cmdline", "environ"}))
    ADD_FAILURE() << "process " << pid << " is left";
  Outcome list = RunMayfly({"image", "list"}, {.environment = {{"MAYFLY_CACHE_DIR", cache.path()}}});
  EXPECT_THAT(list.out, testing::ContainsRegex("tiny +not built"));
}

// --- Terminals ------------------------------------------------------------------------------------------------------

// A terminal of our own: what is typed on it, and what is on its screen.
class Terminal {
 public:
  Terminal(uint16_t rows, uint16_t columns) : master_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)) {
    char name[64] = {};
    if (grantpt(master_.get()) != 0 || unlockpt(master_.get()) != 0 ||
        ptsname_r(master_.get(), name, sizeof name) != 0) {
      throw std::runtime_error("cannot make a terminal");
    }
    path_ = name;
    slave_.Reset(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    Resize(rows, columns);
  }

  const std::filesystem::path& path() const { return path_; }
  void Resize(uint16_t rows, uint16_t columns) {
    winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ioctl(slave_.get(), TIOCSWINSZ, &size);
  }
  void Type(std::string_view keys) { internal::WriteAll(master_, keys, path_); }
  // Blocks until the screen shows the text.
  bool Shows(std::string_view text) {
    Deadline deadline = Deadline::After(Scaled(std::chrono::seconds(60)));
    while (screen_.find(text) == std::string::npos) {
      pollfd ready{master_.get(), POLLIN, 0};
      if (poll(&ready, 1, deadline.RemainingForPoll()) <= 0) return false;
      char buffer[4096];
      ssize_t count = read(master_.get(), buffer, sizeof buffer);
      if (count > 0) screen_.append(buffer, static_cast<size_t>(count));
    }
    return true;
  }
  const std::string& screen() const { return screen_; }
  bool IsRaw() const {
    termios settings{};
    tcgetattr(slave_.get(), &settings);
    return (settings.c_lflag & ICANON) == 0;
  }

 private:
  internal::UniqueFd master_;
  internal::UniqueFd slave_;  // held open, so that the terminal outlives its user
  std::filesystem::path path_;
  std::string screen_;
};

TEST(RunTerminal, HasItsSizeAndFollowsItAndGetsEveryKey) {
  Terminal terminal(33, 101);
  StartedMayfly mayfly({"run", "--memory", "128M", "-it", "--", "sh"}, {.terminal = terminal.path()});
  EXPECT_TRUE(terminal.Shows("# "));
  terminal.Type("stty size; tty\n");
  EXPECT_TRUE(terminal.Shows("33 101\r\n/dev/pts/")) << terminal.screen();
  EXPECT_TRUE(terminal.IsRaw());
  terminal.Resize(44, 122);
  mayfly.process().Signal(SIGWINCH);  // the kernel sends it only to whom the terminal controls
  terminal.Type("trap 'stty size' WINCH; until stty size | grep -x '44 122'; do sleep 0.1; done\n");
  EXPECT_TRUE(terminal.Shows("44 122\r\n")) << terminal.screen();
  // What is interrupted says itself that it runs: busybox's shell loses a Ctrl-C between two commands of a line.
  terminal.Type("sh -c \"echo beg''un; exec sleep 1000\"\n");
  EXPECT_TRUE(terminal.Shows("begun\r\n")) << terminal.screen();
  terminal.Type("\3");  // Ctrl-C ends the guest's command and not mayfly
  terminal.Type("echo st''ill here; exit 5\n");
  EXPECT_TRUE(terminal.Shows("still here\r\n")) << terminal.screen();
  EXPECT_EQ(mayfly.Wait().status.code, 5);
  EXPECT_FALSE(terminal.IsRaw()) << "the terminal was not put back";
  EXPECT_EQ(mayfly.Leftovers(), "");
}

TEST(RunTerminal, IsPutBackWhenASignalEndsMayfly) {
  Terminal terminal(24, 80);
  StartedMayfly mayfly({"run", "--memory", "128M", "-it", "--", "sh"}, {.terminal = terminal.path()});
  EXPECT_TRUE(terminal.Shows("# "));
  mayfly.process().Signal(SIGTERM);
  EXPECT_EQ(mayfly.Wait().status.signal, SIGTERM);
  EXPECT_FALSE(terminal.IsRaw());
  EXPECT_EQ(mayfly.Leftovers(), "");
}

}  // namespace
}  // namespace mayfly::cli
