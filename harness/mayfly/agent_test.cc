// The host's client and the real agent, without a VM between them.
#include <mayfly/agent.h>

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/agent_process.h>
#include <mayfly/internal/agent_protocol.h>
#include <mayfly/internal/error_of_fixture.h>

namespace mayfly {
namespace {

using internal::AgentProcess;
using internal::ErrorOf;
using internal::UniqueFd;
using literals::operator""_KiB;
using testing::AllOf;
using testing::HasSubstr;
using namespace std::chrono_literals;

uint64_t ResidentKiB(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6));
  }
  return 0;
}

// A command that succeeds when the process is gone, or is a zombie that its parent has not seen to yet.
std::string HasEnded(int64_t pid) { return fmt::format("! grep -qs 'State:.[^Z]' /proc/{}/status", pid); }

class AgentTest : public testing::Test {
 protected:
  internal::LocalAgent local{MAYFLY_AGENT_PROGRAM};
  Timeline& timeline = local.timeline;
  AgentProcess& agent_process = local.process;
  Agent& agent = local.agent;
};

using AgentExec = AgentTest;

TEST_F(AgentTest, SaysWhoItIs) {
  AgentHello hello = agent.hello().value();
  EXPECT_NE(hello.session, 0u);
  EXPECT_EQ(hello.protocol, internal::agent::kProtocolVersion);
  EXPECT_FALSE(hello.init);
  EXPECT_EQ(agent.Exec("uname -r").out, hello.kernel + "\n");
  EXPECT_EQ(agent.Exec("cat /proc/sys/kernel/random/boot_id").out, hello.boot_id + "\n");
}

TEST_F(AgentExec, KeepsBothStreamsAndTheExitCodeApart) {
  ExecResult result = agent.Exec("echo out; echo err >&2; exit 7");
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_EQ(result.signal, 0);
  EXPECT_FALSE(result.ok());
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { result.OrThrow(); }), AllOf(HasSubstr("exited with 7"), HasSubstr("err")));
}

TEST_F(AgentExec, RunsAnArgumentVectorWithoutAShell) {
  EXPECT_EQ(agent.Exec({"echo", "$HOME", "a b", "*", ""}).out, "$HOME a b * \n");
}

TEST_F(AgentExec, FeedsStandardInputThenEndOfFile) {
  std::string input(3'000'000, 'x');
  EXPECT_EQ(agent.Exec("wc -c", {.in = input}).out, "3000000\n");
  EXPECT_EQ(agent.Exec("cat").out, "");
}

TEST_F(AgentExec, ACommandThatReadsOnlyAPartOfItsInputSucceeds) {
  EXPECT_EQ(agent.Exec("head -c 3", {.in = "abc" + std::string(3'000'000, 'x')}).out, "abc");
}

TEST_F(AgentExec, GivesEnvironmentAndWorkingDirectory) {
  ExecResult result = agent.Exec("echo $COLOUR-$LANG-$PWD-$HOME",
                                 {.environment = {{"COLOUR", "blue = sky"}}, .working_directory = "/usr"});
  EXPECT_EQ(result.out, "blue = sky-C.UTF-8-/usr-/root\n");
}

TEST_F(AgentExec, RunsAsAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can change the user";
  EXPECT_EQ(agent.Exec("id -u; id -g; echo $HOME $USER", {.user = "daemon"}).out, "1\n1\n/usr/sbin daemon\n");
  EXPECT_EQ(agent.Exec("id -u", {.user = "12345"}).out, "12345\n");
}

TEST_F(AgentExec, TellsWhatCannotBeStarted) {
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Exec({"no-such-program", "x"}); }),
              AllOf(HasSubstr("'guest'"), HasSubstr("no-such-program x"), HasSubstr("No such file")));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Exec({"/etc/passwd"}); }), HasSubstr("Permission denied"));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Exec("true", {.user = "nobody-here"}); }), HasSubstr("nobody-here"));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Exec("true", {.working_directory = "/no/where"}); }),
              HasSubstr("/no/where"));
  EXPECT_THAT(ErrorOf<BadSpec>([&] { agent.Exec(std::vector<std::string>{}); }), HasSubstr("without words"));
  EXPECT_THAT(ErrorOf<BadSpec>([&] { agent.Exec(std::string(300'000, 'x')); }), HasSubstr("WriteFile"));
  EXPECT_THAT(ErrorOf<BadSpec>([&] { agent.Exec("true", {.environment = {{"A=B", "c"}}}); }), HasSubstr("A=B"));
  EXPECT_TRUE(agent.Exec("true").ok());
}

TEST_F(AgentExec, ATimeoutKillsTheWholeProcessGroup) {
  ExecResult result = agent.Exec("echo before; sleep 1000 & echo $!; sleep 1000", {.timeout = 50ms});
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.signal, SIGKILL);
  ASSERT_THAT(result.out, HasSubstr("before\n"));
  agent.WaitUntilSucceeds(HasEnded(std::stoi(result.out.substr(7))), 5s);
  EXPECT_THAT(result.ToString(), HasSubstr("timeout"));
}

TEST_F(AgentExec, ReportsTheSignalThatEndedACommand) {
  ExecResult result = agent.Exec("kill -TERM $$");
  EXPECT_EQ(result.signal, SIGTERM);
  EXPECT_THAT(result.ToString(), HasSubstr("SIGTERM"));
}

TEST_F(AgentExec, DropsWhatIsBeyondMaxOutput) {
  ExecResult result = agent.Exec("head -c 100000 /dev/zero; echo end >&2", {.max_output = 1_KiB});
  EXPECT_EQ(result.out.size(), 1024u);
  EXPECT_EQ(result.dropped, 100000u - 1024u);
  EXPECT_EQ(result.err, "end\n");
}

TEST_F(AgentExec, ReturnsWhenTheCommandEndsThoughItLeavesADaemonWithItsOutput) {
  ExecResult result =
      agent.Exec("(trap '' PIPE; sleep 0.2; echo late; echo $? > /dev/null; exec sleep 1000) & echo $!");
  EXPECT_TRUE(result.ok());
  EXPECT_LT(result.took, 150ms);
  pid_t daemon = std::stoi(result.out);
  EXPECT_EQ(kill(daemon, 0), 0) << "the daemon was killed with the command";
  EXPECT_TRUE(agent.Exec("sleep 0.3; kill -0 " + std::to_string(daemon)).ok()) << "its late output killed the daemon";
  kill(daemon, SIGKILL);
}

TEST_F(AgentExec, AHundredCommandsRunAtOnce) {
  std::vector<GuestProcess> commands;
  for (int i = 0; i < 100; ++i) {
    commands.push_back(agent.Start(fmt::format("read line; echo {} $line", i), {.open_stdin = true}));
  }
  // All run: none has had its input yet.
  for (int i = 99; i >= 0; --i) {
    commands[i].WriteStdin(fmt::format("line-{}\n", i));
    commands[i].CloseStdin();
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(commands[i].Wait(20s).out, fmt::format("{} line-{}\n", i, i));
}

TEST_F(AgentExec, ThreadsShareAnAgent) {
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 20; ++j)
        right += agent.Exec(fmt::format("echo {}-{}", i, j)).out == fmt::format("{}-{}\n", i, j);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 160);
}

TEST_F(AgentExec, AStartedProcessTalksBothWays) {
  GuestProcess cat = agent.Start("cat; echo bye >&2", {.open_stdin = true});
  EXPECT_GT(cat.pid(), 0);
  cat.WriteStdin("hello ");
  cat.WriteStdin("world\n");
  cat.WaitForOutput("world", 5s);
  EXPECT_TRUE(cat.running());
  EXPECT_THAT(ErrorOf<Timeout>([&] { cat.WaitForOutput("never", 10ms); }), HasSubstr("hello world"));
  EXPECT_THAT(ErrorOf<Timeout>([&] { cat.Wait(10ms); }), HasSubstr("still runs"));
  cat.CloseStdin();
  ExecResult result = cat.Wait(5s);
  EXPECT_EQ(result.out, "hello world\n");
  EXPECT_EQ(result.err, "bye\n");
  EXPECT_FALSE(cat.running());
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { cat.WriteStdin("more"); }), HasSubstr("it has ended"));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { cat.WaitForOutput("never", 10s); }), HasSubstr("it has ended"));
}

TEST_F(AgentExec, SignalsReachTheProcess) {
  GuestProcess process = agent.Start("trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.01; done");
  process.WaitForOutput("ready", 5s);
  process.Signal(SIGUSR1);
  ExecResult result = process.Wait(5s);
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "ready\ngot it\n");
  process.Signal(SIGKILL);  // nothing to kill any more: no error
}

TEST_F(AgentExec, DestroyingAProcessKillsIt) {
  int64_t pid = 0;
  {
    GuestProcess process = agent.Start("sleep 1000");
    pid = process.pid();
  }
  EXPECT_TRUE(agent.WaitUntilSucceeds(HasEnded(pid), 5s).ok());
}

TEST_F(AgentExec, ATerminalHasItsSizeAndInterrupts) {
  GuestProcess shell = agent.Start({"/bin/sh"}, {.terminal = true, .rows = 33, .columns = 101});
  shell.WriteStdin("stty size; tty\n");
  shell.WaitForOutput("33 101", 5s);
  shell.WaitForOutput("/dev/pts/", 5s);
  shell.Resize(40, 120);
  shell.WriteStdin("stty size\n");
  shell.WaitForOutput("40 120", 5s);
  // A process of its own says that it has begun: a shell may lose an interrupt that comes between two of its commands.
  shell.WriteStdin("sh -c \"echo st''art; exec sleep 1000\"\n");
  shell.WaitForOutput("start", 5s);
  shell.WriteStdin("\3");
  shell.WriteStdin("echo aft''er\n");
  shell.WaitForOutput("after", 5s);
  shell.CloseStdin();
  EXPECT_TRUE(shell.Wait(5s).err.empty());
}

TEST_F(AgentExec, OutputIsHandedToTheCallbackAsItComes) {
  std::mutex mutex;
  std::string out, err;
  GuestProcess process =
      agent.Start("echo one; echo two >&2; echo three", {.on_output = [&](Stream stream, std::string_view bytes) {
                    std::lock_guard lock(mutex);
                    (stream == Stream::kOut ? out : err) += bytes;
                  }});
  EXPECT_TRUE(process.Wait(5s).ok());
  std::lock_guard lock(mutex);
  EXPECT_EQ(out, "one\nthree\n");
  EXPECT_EQ(err, "two\n");
  EXPECT_EQ(process.out(), "");
}

TEST_F(AgentExec, AWaitOnTheIoThreadIsRefusedInsteadOfHanging) {
  std::promise<std::string> refusal;
  GuestProcess process = agent.Start("echo now", {.on_output = [&](Stream, std::string_view) {
                                       refusal.set_value(ErrorOf<BadSpec>([&] { agent.Exec("true"); }));
                                     }});
  EXPECT_THAT(refusal.get_future().get(), HasSubstr("on_output"));
  process.Wait(5s);
}

TEST_F(AgentExec, AGibibyteOfOutputUsesNoMemoryOnEitherSide) {
  uint64_t ours = ResidentKiB(getpid());
  uint64_t bytes = 0;
  GuestProcess process = agent.Start("head -c 1073741824 /dev/zero",
                                     {.on_output = [&](Stream, std::string_view piece) { bytes += piece.size(); }});
  EXPECT_TRUE(process.Wait(120s).ok());
  EXPECT_EQ(bytes, uint64_t{1} << 30);
  EXPECT_LT(ResidentKiB(getpid()), ours + uint64_t{32} * 1024);
  EXPECT_LT(ResidentKiB(agent_process.child().pid()), uint64_t{16} * 1024);
}

TEST_F(AgentExec, TriesAgainUntilItSucceeds) {
  std::string counter = testing::TempDir() + fmt::format("mayfly-agent-counter-{}", getpid());
  ExecResult result = agent.WaitUntilSucceeds(
      fmt::format("echo x >> {0}; lines=$(wc -l < {0}); echo try $lines; test $lines = 3", counter), 10s);
  EXPECT_EQ(result.out, "try 3\n");
  unlink(counter.c_str());
  EXPECT_THAT(ErrorOf<Timeout>([&] { agent.WaitUntilSucceeds("echo hopeless; false", 120ms); }),
              AllOf(HasSubstr("exited with 1"), HasSubstr("hopeless")));
  EXPECT_THAT(ErrorOf<Timeout>([&] { agent.WaitUntilSucceeds({"no-such-program"}, 120ms); }), HasSubstr("127"));
}

// --- The connection's end
// ------------------------------------------------------------------------------------------------

TEST_F(AgentTest, ADyingAgentFailsWhatRuns) {
  GuestProcess process = agent.Start("sleep 1000");
  std::promise<std::string> closed;
  agent.OnClosed([&](const std::string& reason) { closed.set_value(reason); });
  agent_process.child().Kill();
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { process.Wait(10s); }),
              AllOf(HasSubstr("channel was closed"), HasSubstr("sleep 1000")));
  EXPECT_THAT(closed.get_future().get(), HasSubstr("channel was closed"));
  EXPECT_FALSE(agent.connected());
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Exec("true"); }), HasSubstr("channel was closed"));
  EXPECT_THROW(agent.WaitForHello(Deadline::After(10s)), GuestFailed);
}

TEST_F(AgentTest, DisconnectGivesItsReasonToAllThatWait) {
  GuestProcess process = agent.Start("sleep 1000");
  auto waiting = std::async(std::launch::async, [&] { return ErrorOf<VmmDied>([&] { process.Wait(10s); }); });
  agent.Disconnect(std::make_exception_ptr(VmmDied({.summary = "QEMU was killed", .notes = {}, .next_step = {}})));
  EXPECT_THAT(waiting.get(), AllOf(HasSubstr("QEMU was killed"), HasSubstr("run `sleep 1000`")));
  EXPECT_THROW(agent.Exec("true"), VmmDied);
  std::string reason;
  agent.OnClosed([&](const std::string& why) { reason = why; });
  EXPECT_EQ(reason, "QEMU was killed");
}

TEST_F(AgentTest, TheAgentEndsItsCommandsWhenTheHostGoes) {
  int64_t pid = 0;
  auto second = std::make_unique<AgentProcess>(MAYFLY_AGENT_PROGRAM);
  {
    Timeline other_timeline;
    Agent other(second->TakeSocket(), other_timeline, {.name = "other", .transcript = {}});
    other.WaitForHello(Deadline::After(10s));
    GuestProcess process = other.Start("exec sleep 1000");
    pid = process.pid();
    // The connection goes without a word: the process is not cancelled.
    other.Disconnect(std::make_exception_ptr(GuestFailed({.summary = "gone", .notes = {}, .next_step = {}})));
  }
  EXPECT_EQ(second->child().Wait(Deadline::After(10s)).code, 0);
  EXPECT_TRUE(agent.WaitUntilSucceeds(HasEnded(pid), 5s).ok());
}

TEST_F(AgentTest, AnotherTakesTheSessionOverWithoutAGreeting) {
  AgentHello hello = *agent.hello();
  GuestProcess kept = agent.Start("exec sleep 1000");
  Agent::Released released = agent.Release();
  EXPECT_FALSE(agent.connected());
  EXPECT_EQ(released.session->hello.session, hello.session);
  Agent next(std::move(released.channel), timeline,
             {.name = "guest", .transcript = {}, .session = std::move(released.session)});
  EXPECT_EQ(next.hello()->kernel, hello.kernel);
  // Another session would have ended what runs in this one.
  EXPECT_TRUE(next.Exec(fmt::format("kill -0 {} && kill {}", kept.pid(), kept.pid())).ok());
}

TEST_F(AgentTest, WaitForHelloTimesOutOnASilentGuest) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd ours(ends[0]), theirs(ends[1]);
  Agent silent(std::move(ours), timeline, {.name = "silent", .transcript = {}});
  EXPECT_THAT(ErrorOf<Timeout>([&] { silent.WaitForHello(Deadline::After(20ms)); }), HasSubstr("'silent'"));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { silent.Exec("true"); }), HasSubstr("not answered yet"));
}

TEST_F(AgentTest, TheTranscriptHasALineForEachRequest) {
  std::string path = testing::TempDir() + fmt::format("mayfly-agent-transcript-{}.log", getpid());
  {
    AgentProcess other(MAYFLY_AGENT_PROGRAM);
    Agent logged(other.TakeSocket(), timeline, {.name = "logged", .transcript = path});
    logged.WaitForHello(Deadline::After(10s));
    logged.Exec("exit 4");
    EXPECT_FALSE(logged.Stat("/no/such/file").has_value());
  }
  std::stringstream content;
  content << std::ifstream(path).rdbuf();
  EXPECT_THAT(content.str(), AllOf(HasSubstr("hello: agent"), HasSubstr("run `exit 4` -> exit 4 after"),
                                   HasSubstr("look at /no/such/file -> error 2"), HasSubstr("closed: ")));
  unlink(path.c_str());
}

}  // namespace
}  // namespace mayfly
