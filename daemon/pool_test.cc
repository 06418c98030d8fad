#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/pool_protocol.h>
#include <mayfly/internal/unix_address.h>
#include <mayfly/sandbox.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <functional>
#include <future>
#include <set>

#include "daemon/pool_fixture.h"

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::shared_ptr<Lease> OpenLease(const std::string& name = "kv") {
  return Lease::Open({.name = name, .memory = Bytes(64 << 20)});
}

pid_t ParentOf(pid_t pid) {
  std::string stat = Slurp("/proc/" + std::to_string(pid) + "/stat");
  return std::stoi(stat.substr(stat.rfind(')') + 4));
}

template <typename Operation>
std::string ErrorOf(Operation operation) {
  try {
    operation();
  } catch (const Error& error) {
    return std::string(error.kind()) + ": " + error.what();
  }
  return "no error";
}

// --- Leases: the same in the daemon and in the test process ----------------------------------------------------------

class LeaseTest : public PoolFixture, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    PoolFixture::SetUp();
    Set("MAYFLY_POOL", GetParam());
  }
  void TearDown() override {
    PoolFixture::TearDown();
    // In this process leases end in their own time.
    for (const auto& process : fs::directory_iterator(runtime())) {
      if (!process.is_directory()) continue;
      for (const auto& sandbox : fs::directory_iterator(process)) EXPECT_TRUE(WaitUntilGone(sandbox));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Pool, LeaseTest, testing::Values("on", "off"), [](const auto& mode) {
  return mode.param == std::string_view("on") ? "Daemon" : "InProcess";
});

TEST_P(LeaseTest, RunsAProcessWithItsStreamsDescriptorsAndEnvironment) {
  auto lease = OpenLease();
  Sandbox sandbox = Sandbox::OwnedBy(lease, lease->directory());
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]), writer(ends[1]);
  auto process = sandbox.Start({.argv = {"sh", "-c", "echo $COLOUR >&7; pwd; exit 5"},
                                .stdout_path = sandbox.Path("out"),
                                .inherit = {{writer.get(), 7}},
                                .environment = {{"COLOUR", "blue"}}});
  EXPECT_EQ(process->Wait(Soon()), (ExitStatus{5, 0}));
  writer.Reset();
  char text[16] = {};
  ASSERT_EQ(read(reader.get(), text, sizeof text), 5);
  EXPECT_STREQ(text, "blue\n");
  EXPECT_EQ(Slurp(sandbox.Path("out")), fs::current_path().string() + "\n");
}

TEST_P(LeaseTest, PassesSignalsAndTellsWhichOneEndedAProcess) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}});
  EXPECT_FALSE(process->Poll());
  process->Signal(SIGUSR1);
  EXPECT_EQ(process->Wait(Soon()), (ExitStatus{0, SIGUSR1}));
  process->Signal(SIGTERM);  // of no effect by now
  EXPECT_EQ(process->Poll(), (ExitStatus{0, SIGUSR1}));
}

TEST_P(LeaseTest, AProcessIsTheFirstToGoWhenTheHostRunsOutOfMemory) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  EXPECT_EQ(Slurp(fmt::format("/proc/{}/oom_score_adj", process->pid())), "1000\n");
  ChildProcess other({.argv = {"sleep", "1000"}, .grace = {}});
  EXPECT_EQ(Slurp(fmt::format("/proc/{}/oom_score_adj", other.pid())), Slurp("/proc/self/oom_score_adj"));
}

TEST_P(LeaseTest, AProcessGoesWithItsObject) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  UniqueFd pidfd = OpenPidFd(process->pid());
  process.reset();
  EXPECT_TRUE(Readable(pidfd.get()));
}

TEST_P(LeaseTest, ErrorsOfThePoolReachTheClientAsTheyAre) {
  auto lease = OpenLease();
  std::string error = ErrorOf([&] { lease->Start({.argv = {"no-such-program-here"}}); });
  EXPECT_THAT(error, HasSubstr("HostLacks: mayfly: cannot start 'no-such-program-here': there is no such program"));
  EXPECT_THAT(error, HasSubstr("/usr/bin"));
  EXPECT_EQ(lease->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0})) << "the lease goes on";
}

TEST_P(LeaseTest, ItsEndKillsItsProcessesAndRemovesItsSandbox) {
  auto lease = OpenLease();
  fs::path directory = lease->directory();
  struct stat status{};
  ASSERT_EQ(stat(directory.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  std::ofstream(directory / "log") << "x";
  // What a VMM does when its owner is killed: nothing. The pool has to notice by itself.
  Message started = lease->connection().Call(
      {{"op", "start"}, {"options", ToJson(ChildOptions{.argv = {"sh", "-c", "trap '' TERM; sleep 1000"}})}});
  lease.reset();
  EXPECT_TRUE(Readable(started.descriptors.at(0).get()));
  EXPECT_TRUE(WaitUntilGone(directory));
}

TEST_P(LeaseTest, KeepsASandboxThatSomebodyStillWants) {
  auto lease = OpenLease();
  fs::path directory = lease->directory();
  Message started =
      lease->connection().Call({{"op", "start"}, {"options", ToJson(ChildOptions{.argv = {"sleep", "1000"}})}});
  Sandbox::OwnedBy(lease, directory).Keep();
  lease.reset();
  EXPECT_TRUE(Readable(started.descriptors.at(0).get()));
  EXPECT_TRUE(fs::exists(directory));
  fs::remove_all(directory);
}

TEST_P(LeaseTest, RefusesWhatItDoesNotUnderstandAndGoesOn) {
  auto lease = OpenLease();
  PoolConnection& pool = lease->connection();
  EXPECT_THAT(ErrorOf([&] { pool.Call({{"op", "dance"}}); }), HasSubstr("the pool has no operation \"dance\""));
  EXPECT_THAT(ErrorOf([&] { pool.Call({{"op", "poll"}}); }), HasSubstr("BadSpec: mayfly: a pool request is malformed"));
  EXPECT_THAT(ErrorOf([&] { pool.Call({{"op", "poll"}, {"process", 77}}); }), HasSubstr("no such process"));
  EXPECT_THAT(ErrorOf([&] { pool.Call({{"op", "open"}, {"name", "x"}}); }), HasSubstr("open already"));
  json options = ToJson(ChildOptions{.argv = {"true"}, .inherit = {{0, 5}}});
  EXPECT_THAT(ErrorOf([&] { pool.Call({{"op", "start"}, {"options", options}}); }),
              HasSubstr("without the descriptors"));
  EXPECT_EQ(lease->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0}));
}

// --- The daemon ------------------------------------------------------------------------------------------------------

class DaemonTest : public PoolFixture {
 protected:
  // This test binary again, in a process of its own.
  static ChildOptions Owner(const std::string& test, const fs::path& output) {
    return {.argv = {"/proc/self/exe", "--gtest_brief=1", "--gtest_filter=PoolOwner." + test},
            .stdout_path = output.string() + ".log",
            .environment = {{"POOL_OWNER", output.string()}},
            .grace = {}};
  }
};

TEST_F(DaemonTest, IsTheParentOfEveryProcess) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  EXPECT_EQ(ParentOf(process->pid()), lease->connection().daemon_pid());
  EXPECT_NE(lease->connection().daemon_pid(), getpid());
  EXPECT_NE(ParentOf(lease->connection().daemon_pid()), getpid());
}

TEST_F(DaemonTest, FiftyProcessesThatStartAtOnceGetOne) {
  std::vector<std::unique_ptr<ChildProcess>> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(
        std::make_unique<ChildProcess>(Owner("WritesWhoItsDaemonIs", root() / ("c" + std::to_string(i)))));
  }
  for (auto& client : clients) EXPECT_EQ(client->Wait(Soon()), (ExitStatus{0, 0}));
  std::set<std::string> daemons;
  for (int i = 0; i < 50; ++i) daemons.insert(Slurp(root() / ("c" + std::to_string(i))));
  EXPECT_THAT(daemons, ElementsAre(std::to_string(PoolConnection::Open()->daemon_pid())));
}

TEST_F(DaemonTest, CleansUpAfterAClientThatIsKilled) {
  fs::remove(root() / "killed");
  ChildProcess client(Owner("HoldsALease", root() / "killed"));
  // The owner makes the file when its lease holds a process.
  UniqueFd watch(inotify_init1(IN_CLOEXEC));
  inotify_add_watch(watch.get(), root().c_str(), IN_MOVED_TO);
  while (!fs::exists(root() / "killed")) {
    ASSERT_TRUE(Readable(watch.get())) << Slurp(root() / "killed.log");
    char buffer[4096];
    [[maybe_unused]] ssize_t got = read(watch.get(), buffer, sizeof buffer);
  }
  std::istringstream held(Slurp(root() / "killed"));
  pid_t vmm = 0;
  std::string directory;
  held >> vmm >> directory;
  UniqueFd pidfd = OpenPidFd(vmm);
  ASSERT_TRUE(fs::exists(directory));
  client.Signal(SIGKILL);
  EXPECT_TRUE(Readable(pidfd.get()));
  EXPECT_TRUE(WaitUntilGone(directory));
}

TEST_F(DaemonTest, TakesItsProcessesAlongWhenItIsKilledAndTheNextLeaseGetsAnother) {
  auto lease = OpenLease();
  fs::path process_directory = lease->directory().parent_path();
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  pid_t first = lease->connection().daemon_pid();
  kill(first, SIGKILL);
  EXPECT_EQ(process->Wait(Soon()), (ExitStatus{0, SIGKILL}));
  std::string error = ErrorOf([&] { lease->Start({.argv = {"true"}}); });
  EXPECT_THAT(error, HasSubstr("has gone away"));
  EXPECT_TRUE(WaitUntilGone(process_directory));
  auto next = OpenLease();
  EXPECT_NE(next->connection().daemon_pid(), first);
  EXPECT_EQ(next->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0}));
}

TEST_F(DaemonTest, LeavesWhenItIsIdleWithoutATrace) {
  Set("MAYFLY_POOL_IDLE", "0");
  auto lease = OpenLease();
  UniqueFd daemon = OpenPidFd(lease->connection().daemon_pid());
  fs::path process_directory = lease->directory().parent_path();
  fs::path socket = runtime() / (PoolName() + ".sock");
  EXPECT_TRUE(fs::exists(socket));
  lease.reset();
  EXPECT_TRUE(Readable(daemon.get()));
  EXPECT_FALSE(fs::exists(socket));
  EXPECT_FALSE(fs::exists(process_directory));
  EXPECT_EQ(OpenLease()->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0})) << "and another one comes";
}

TEST_F(DaemonTest, LeavesWhenItsDirectoryIsGone) {
  Set("MAYFLY_POOL_IDLE", "0");
  auto lease = OpenLease();
  UniqueFd daemon = OpenPidFd(lease->connection().daemon_pid());
  fs::remove_all(runtime());
  lease.reset();
  EXPECT_TRUE(Readable(daemon.get())) << "nobody can reach it any more";
}

TEST_F(DaemonTest, StaysWhileALeaseIsHeld) {
  Set("MAYFLY_POOL_IDLE", "0");
  auto lease = OpenLease();
  {
    auto another = OpenLease();
  }
  EXPECT_EQ(lease->Start({.argv = {"sleep", "0.1"}})->Wait(Soon()), (ExitStatus{0, 0}));
}

TEST_F(DaemonTest, TellsWhoHoldsWhat) {
  auto lease = OpenLease("colours");
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  json status = PoolConnection::Open()->Call({{"op", "status"}}).body;
  ASSERT_EQ(status["leases"].size(), 1u) << status;
  json held = status["leases"][0];
  EXPECT_EQ(held["name"], "colours");
  EXPECT_EQ(held["peer"], getpid());
  EXPECT_EQ(held["program"], program_invocation_short_name);
  EXPECT_EQ(held["memory"], 64 << 20);
  EXPECT_EQ(held["processes"][0]["pid"], process->pid());
}

// Room for one VM of 64 MiB with its VMM, and no second one.
class SmallPoolTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    Set("MAYFLY_POOL_MEMORY", "300MiB");
  }
};

TEST_F(SmallPoolTest, ALeaseWaitsForAnotherAndIsToldForWhich) {
  auto first = OpenLease("first");
  std::promise<std::string> waiting;
  auto second = std::async(std::launch::async, [&] {
    return Lease::Open({.name = "second", .memory = Bytes(64 << 20), .on_wait = [&](const std::string& line) {
                          waiting.set_value(line);
                        }});
  });
  EXPECT_EQ(waiting.get_future().get(),
            fmt::format("waiting for 64 MiB: {} ({}) holds 1 VM with 64 MiB", program_invocation_short_name, getpid()));
  json admission = PoolConnection::Open()->Call({{"op", "status"}}).body["admission"];
  EXPECT_EQ(admission["waiting"][0]["name"], "second") << admission;
  first.reset();
  EXPECT_EQ(second.get()->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0}));
}

TEST_F(SmallPoolTest, ALeaseDoesNotWaitLongerThanItIsTold) {
  auto first = OpenLease("first");
  Set("MAYFLY_POOL_WAIT", "0");
  EXPECT_THAT(ErrorOf([] { OpenLease("second"); }), HasSubstr("Timeout: mayfly: 'second' waited"));
  Set("MAYFLY_POOL_WAIT", "long");
  EXPECT_THAT(ErrorOf([] { OpenLease("second"); }), HasSubstr("MAYFLY_POOL_WAIT: \"long\" is no time; allowed"));
}

TEST_F(SmallPoolTest, ALeaseThatNeverFitsIsRefusedAndTheConnectionGoesOn) {
  EXPECT_THAT(ErrorOf([] { Lease::Open({.name = "large", .memory = Bytes(1 << 30)}); }),
              HasSubstr("BadSpec: mayfly: 'large': memory: \"1GiB\" is more than all VMs together may have here"));
  auto connection = PoolConnection::Open();
  EXPECT_THAT(ErrorOf([&] { connection->Call({{"op", "open"}, {"name", "x"}, {"memory", 64 << 20}, {"cpus", -1}}); }),
              HasSubstr("a lease of -1 CPUs; allowed: 0 to"));
  EXPECT_NO_THROW(connection->Call({{"op", "open"}, {"name", "x"}, {"memory", 64 << 20}, {"cpus", 1}}));
}

TEST_F(SmallPoolTest, AClientThatDiesWhileItWaitsLeavesTheQueue) {
  auto first = OpenLease("first");
  auto waiting = PoolConnection::Open();
  MessageSocket& socket = waiting->socket();
  socket.Send({{"op", "open"}, {"name", "second"}, {"memory", 64 << 20}, {"cpus", 1}}, Soon());
  ASSERT_TRUE(socket.Receive(Soon())->body.contains("waiting"));
  waiting.reset();
  first.reset();
  EXPECT_EQ(OpenLease("third")->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0}));
}

TEST_F(SmallPoolTest, StopsWhileALeaseWaits) {
  auto first = OpenLease("first");
  auto waiting = PoolConnection::Open();
  UniqueFd daemon = OpenPidFd(waiting->daemon_pid());
  MessageSocket& socket = waiting->socket();
  socket.Send({{"op", "open"}, {"name", "second"}, {"memory", 64 << 20}, {"cpus", 1}}, Soon());
  ASSERT_TRUE(socket.Receive(Soon())->body.contains("waiting"));
  PoolConnection::Open()->Call({{"op", "stop"}});
  EXPECT_THAT(socket.Receive(Soon())->body["error"]["summary"].get<std::string>(), HasSubstr("while it waited"));
  EXPECT_TRUE(Readable(daemon.get()));
}

TEST_F(DaemonTest, EndsEveryLeaseWhenItIsToldToStop) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  UniqueFd daemon = OpenPidFd(lease->connection().daemon_pid());
  PoolConnection::Open()->Call({{"op", "stop"}});
  EXPECT_TRUE(Readable(daemon.get()));
  EXPECT_EQ(process->Wait(Soon()), (ExitStatus{0, SIGKILL}));
  EXPECT_FALSE(fs::exists(lease->directory()));
  EXPECT_FALSE(PoolConnection::OpenIfRunning());
}

TEST_F(DaemonTest, ServesItsOwnProtocolOnly) {
  PoolConnection::Open();
  const sockaddr_un address = UnixAddress(runtime() / (PoolName() + ".sock")).value();
  auto connect_raw = [&] {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  };
  MessageSocket old(connect_raw());
  old.Send({{"op", "hello"}, {"protocol", 0}, {"version", "0.0.1"}}, Soon());
  std::optional<Message> reply = old.Receive(Soon());
  ASSERT_TRUE(reply);
  EXPECT_THAT(reply->body["error"]["summary"].get<std::string>(),
              HasSubstr(fmt::format("speaks pool protocol {}, this program 0", kPoolProtocol)));
  EXPECT_FALSE(old.Receive(Soon()));

  UniqueFd garbage = connect_raw();
  ASSERT_EQ(write(garbage.get(), "GET / HTTP/1.1\r\n\r\n", 18), 18);
  EXPECT_TRUE(Readable(garbage.get())) << "the daemon did not hang up";
  EXPECT_EQ(OpenLease()->Start({.argv = {"true"}})->Wait(Soon()), (ExitStatus{0, 0})) << "others are served";
}

TEST_F(DaemonTest, TakesOverASocketThatADeadOneLeft) {
  pid_t first = PoolConnection::Open()->daemon_pid();
  UniqueFd daemon = OpenPidFd(first);
  kill(first, SIGKILL);
  ASSERT_TRUE(Readable(daemon.get()));
  ASSERT_TRUE(fs::exists(runtime() / (PoolName() + ".sock")));
  EXPECT_NE(PoolConnection::Open()->daemon_pid(), first);
}

// No file tells who the daemon is: a lock and the socket do, which a dead one cannot hold.
TEST_F(DaemonTest, FilesWithItsNumberMeanNothing) {
  for (const char* extension : {".start", ".out", ".log", ".pid"}) {
    std::ofstream(runtime() / (PoolName() + extension)) << getpid() << "\n";
  }
  EXPECT_NE(PoolConnection::Open()->daemon_pid(), getpid());
  fs::remove(runtime() / (PoolName() + ".pid"));
}

TEST_F(DaemonTest, SaysWhatIsInTheWayOfItsSocket) {
  fs::path socket = runtime() / (PoolName() + ".sock");
  const std::function<void()> squatters[] = {[&] { std::ofstream(socket) << "x"; },
                                             [&] { fs::create_directory(socket); },
                                             [&] { fs::create_symlink("/nowhere", socket); }};
  for (const auto& squat : squatters) {
    squat();
    EXPECT_THAT(ErrorOf([] { PoolConnection::Open(); }), HasSubstr(".sock is in the way: it is no socket"));
    EXPECT_TRUE(fs::remove(socket)) << "it was somebody's";
  }
}

TEST_F(DaemonTest, SaysWhyItCannotStart) {
  Set("MAYFLY_DAEMON", "/no/such/mayflyd");
  EXPECT_THAT(ErrorOf([] { PoolConnection::Open(); }), HasSubstr("MAYFLY_DAEMON: /no/such/mayflyd: No such file"));
  Set("MAYFLY_DAEMON", "/bin/false");
  EXPECT_THAT(ErrorOf([] { PoolConnection::Open(); }), HasSubstr("mayflyd could not start"));
  unsetenv("MAYFLY_DAEMON");  // NOLINT(concurrency-mt-unsafe): one thread
  Set("MAYFLY_POOL_MEMORY", "much");
  EXPECT_THAT(ErrorOf([] { PoolConnection::Open(); }), HasSubstr("MAYFLY_POOL_MEMORY: \"much\" is no size"));
  unsetenv("MAYFLY_POOL_MEMORY");  // NOLINT(concurrency-mt-unsafe): one thread
  Set("MAYFLY_POOL_IDLE", "soon");
  EXPECT_THAT(ErrorOf([] { PoolConnection::Open(); }), HasSubstr("mayflyd could not start"));
}

TEST_F(DaemonTest, ModesAreChecked) {
  Set("MAYFLY_POOL", "sometimes");
  EXPECT_THAT(ErrorOf([] { PoolConnection::Open(); }),
              HasSubstr("BadSpec: mayfly: MAYFLY_POOL: \"sometimes\" is not a mode; allowed: on, off"));
  Set("MAYFLY_POOL", "on");
}

TEST_F(DaemonTest, RefusesClientsWhenItHasNoDescriptorsLeftAndRecovers) {
  fs::path script = root() / "few";
  std::ofstream(script) << "#!/bin/sh\nulimit -n 32\nexec " << DaemonProgram().string() << " \"$@\"\n";
  fs::permissions(script, fs::perms(0700));
  Set("MAYFLY_DAEMON", script.string());
  std::vector<std::unique_ptr<PoolConnection>> connections;
  std::string error = ErrorOf([&] {
    for (int i = 0; i < 64; ++i) connections.push_back(PoolConnection::Open());
  });
  EXPECT_THAT(error, HasSubstr("has no free file descriptors"));
  EXPECT_THAT(error, HasSubstr("ulimit -n"));
  EXPECT_GT(connections.size(), 8u);
  connections.resize(1);
  // The daemon closes its ends in its own time; a request that is answered shows that it goes on.
  connections[0]->Call({{"op", "status"}});
}

// --- Run by the tests above, in processes of their own ---------------------------------------------------------------

class PoolOwner : public testing::Test {
 protected:
  void SetUp() override {
    const char* output = getenv("POOL_OWNER");  // NOLINT(concurrency-mt-unsafe): one thread
    if (output == nullptr) GTEST_SKIP() << "run by DaemonTest in a process of its own";
    output_ = output;
  }
  void Write(const std::string& text) {
    std::ofstream(output_.string() + ".new") << text;
    fs::rename(output_.string() + ".new", output_);
  }
  fs::path output_;
};

TEST_F(PoolOwner, WritesWhoItsDaemonIs) { Write(std::to_string(PoolConnection::Open()->daemon_pid())); }

TEST_F(PoolOwner, HoldsALease) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}});
  Write(std::to_string(process->pid()) + " " + lease->directory().string());
  process->Wait(Deadline::Never());
}

}  // namespace
}  // namespace mayfly::internal
