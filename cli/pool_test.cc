// mayfly pool, and what gc and doctor know of it. Leases hold plain processes here: no VM is started.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/pool_protocol.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"
#include "cli/pool_report.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::ExitStatus;
using internal::Lease;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// This process leases; the command looks at the same runtime directory.
class PoolCommand : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(runtime());
    fs::permissions(runtime(), fs::perms(0700));
    Set("MAYFLY_RUNTIME_DIR", runtime().string());
    Set("MAYFLY_CACHE_DIR", (directory_ / "cache").string());
    Set("MAYFLY_POOL", "on");
    Set("MAYFLY_POOL_IDLE", "60");
  }
  void TearDown() override { EXPECT_EQ(Run({"pool", "stop", "--force"}).status.code, 0); }

  static void Set(const char* name, const std::string& value) {
    setenv(name, value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): before threads look at it
  }
  fs::path runtime() const { return directory_ / "rt"; }

  RunOptions Here() const { return {.runtime = runtime()}; }
  Outcome Run(std::vector<std::string> words) const { return RunMayfly(std::move(words), Here()); }
  // Does not wait long for a daemon that does not answer.
  Outcome RunImpatiently(std::vector<std::string> words) const {
    return RunMayfly(std::move(words), {.runtime = runtime(), .environment = {{"MAYFLY_TIMEOUT_FACTOR", "0.1"}}});
  }
  static std::shared_ptr<Lease> OpenLease() { return Lease::Open({.name = "colours", .memory = Bytes(64 << 20)}); }

  // A daemon that was killed, and what it leaves.
  static void KillADaemon() {
    auto lease = OpenLease();
    auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
    kill(lease->connection().daemon_pid(), SIGKILL);
    EXPECT_EQ(process->Wait(Deadline::After(Scaled(std::chrono::seconds(20)))).signal, SIGKILL);
  }

  internal::TestDirectory directory_;
};

TEST_F(PoolCommand, StatusStartsNoDaemon) {
  Outcome outcome = Run({"pool", "status"});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_EQ(outcome.out, "no mayflyd runs for " + runtime().string() + "; the first test starts one\n");
  EXPECT_EQ(json::parse(Run({"pool", "status", "--json"}).out), json({{"pools", json::array()}}));
}

TEST_F(PoolCommand, StatusTellsWhoHoldsWhat) {
  auto lease = OpenLease();
  std::string holder = std::string(program_invocation_short_name) + " (" + std::to_string(getpid()) + ")";
  std::string daemon = std::to_string(lease->connection().daemon_pid());
  Outcome outcome = Run({"pool", "status"});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr(", process " + daemon + "\n"), HasSubstr("colours  64 MiB  1     " + holder),
                                 HasSubstr("  cpus    "), HasSubstr(runtime().string()), Not(HasSubstr("\033"))));
  json pool = json::parse(Run({"pool", "status", "--json"}).out).at("pools").at(0);
  EXPECT_EQ(pool.at("state"), "runs");
  EXPECT_EQ(std::to_string(pool.at("pid").get<int>()), daemon);
  EXPECT_EQ(pool.at("leases").at(0).at("name"), "colours");
  EXPECT_EQ(pool.at("leases").at(0).at("peer"), getpid());
}

TEST_F(PoolCommand, WatchTellsEveryChangeAndDaemonsThatComeAndGo) {
  StartedMayfly watch({"pool", "status", "--watch", "--json"}, Here());
  ASSERT_TRUE(watch.WaitForOut("{\"pools\":[]}\n")) << watch.err();
  Set("MAYFLY_POOL_IDLE", "0");
  auto lease = OpenLease();
  EXPECT_TRUE(watch.WaitForOut("\"name\":\"colours\""));
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  EXPECT_TRUE(watch.WaitForOut("\"program\":\"sleep\""));
  process.reset();
  lease.reset();
  // Nobody holds anything any more: the daemon leaves although it is watched.
  EXPECT_TRUE(watch.WaitForOut("}]}\n{\"pools\":[]}\n")) << watch.out();
  watch.process().Signal(SIGINT);
  EXPECT_EQ(watch.Wait().status, (ExitStatus{0, SIGINT}));
}

TEST_F(PoolCommand, StopEndsAllVmsAndTheDaemon) {
  auto lease = OpenLease();
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  fs::path socket = internal::PoolFiles{internal::PoolName(), runtime()}.socket();
  EXPECT_TRUE(fs::exists(socket));
  Outcome outcome = Run({"pool", "stop"});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_EQ(outcome.out, "mayflyd, process " + std::to_string(lease->connection().daemon_pid()) + ", has ended\n");
  EXPECT_EQ(process->Poll(), (ExitStatus{0, SIGKILL})) << "it was gone before the command was";
  EXPECT_FALSE(fs::exists(lease->directory()));
  EXPECT_FALSE(fs::exists(socket));
  EXPECT_EQ(Run({"pool", "stop"}).out, "no mayflyd runs\n");
}

TEST_F(PoolCommand, StopTakesNames) {
  OpenLease();
  json stopped = json::parse(Run({"pool", "stop", "--json", internal::PoolName()}).out);
  EXPECT_TRUE(stopped.at("pools").at(0).at("ended").get<bool>()) << stopped;
  EXPECT_EQ(stopped.at("pools").at(0).at("name"), internal::PoolName());
}

// A daemon that is stopped by a signal, and what it is called.
class SilentPoolCommand : public PoolCommand {
 protected:
  void SetUp() override {
    PoolCommand::SetUp();
    lease_ = OpenLease();
    pid_t daemon = lease_->connection().daemon_pid();
    name_ = "mayflyd, process " + std::to_string(daemon);
    kill(daemon, SIGSTOP);
  }
  void TearDown() override {
    EXPECT_EQ(RunImpatiently({"pool", "stop", "--force"}).out, name_ + ", has ended\n");
    PoolCommand::TearDown();
  }

  std::shared_ptr<Lease> lease_;
  std::string name_;
};

TEST_F(SilentPoolCommand, IsTold) {
  Outcome status = RunImpatiently({"pool", "status"});
  EXPECT_EQ(status.status.code, kFailed);
  EXPECT_THAT(status.out, AllOf(HasSubstr(name_ + ": "), HasSubstr("end it: mayfly pool stop --force")));
}

TEST_F(SilentPoolCommand, IsEndedByForceOnly) {
  Outcome stop = RunImpatiently({"pool", "stop"});
  EXPECT_EQ(stop.status.code, kFailed);
  EXPECT_THAT(stop.err, HasSubstr(name_ + ", did not end within"));
}

TEST_F(PoolCommand, GcRemovesTheFilesOfADeadDaemonAndNotThoseOfALivingOne) {
  KillADaemon();
  std::string name = internal::PoolName();
  std::vector<std::string> told = json::parse(Run({"gc", "--dry-run", "--json"}).out).at("paths");
  for (const char* extension : {".sock", ".log", ".out", ".start"}) {
    EXPECT_THAT(told, testing::Contains((runtime() / (name + extension)).string()));
    EXPECT_TRUE(fs::exists(runtime() / (name + extension)));
  }
  EXPECT_EQ(Run({"gc"}).status.code, 0);
  for (const auto& left : fs::directory_iterator(runtime())) {
    // The janitor of the dead daemon may be at work on the rest.
    EXPECT_THAT(left.path().filename().string(), Not(testing::StartsWith("pool-")));
  }
  auto lease = OpenLease();
  Run({"gc"});
  EXPECT_TRUE(fs::exists(internal::PoolFiles{name, runtime()}.socket()));
  EXPECT_TRUE(fs::exists(lease->directory()));
}

TEST_F(PoolCommand, GcRemovesHalfMadeTemplates) {
  fs::path templates = directory_ / "cache/images/templates";
  fs::create_directories(templates / "building-tiny-0123");
  fs::create_directories(templates / "locks");
  internal::WriteWholeFile(templates / "locks/tiny-0123", "");
  EXPECT_EQ(Run({"gc"}).out, "removed " + (templates / "building-tiny-0123").string() + "\n");
  EXPECT_EQ(Run({"gc"}).out, "nothing to remove\n");
}

TEST_F(PoolCommand, DoctorKnowsThePool) {
  auto pool_check = [&] {
    json all = json::parse(Run({"doctor", "--json"}).out);
    for (const json& check : all.at("checks")) {
      if (check.at("name") == "pool") return check;
    }
    return json();
  };
  EXPECT_EQ(pool_check().at("detail"), "no mayflyd runs; the first test starts one");
  {
    auto lease = OpenLease();
    EXPECT_EQ(pool_check().at("detail"), "process " + std::to_string(lease->connection().daemon_pid()) + ": 1 VM held");
  }
  KillADaemon();
  json check = pool_check();
  EXPECT_EQ(check.at("result"), "warn");
  EXPECT_THAT(check.at("detail").get<std::string>(), HasSubstr("left by killed processes"));
  EXPECT_EQ(check.at("fix"), "remove what is left: mayfly gc");
}

// --- What a daemon tells, for people ---------------------------------------------------------------------------------

const json kBusy = json::parse(R"({
  "leases": [{"name": "kv", "memory": 134217728, "cpus": 0.25, "program": "kv_test", "peer": 77, "seconds": 60.9}],
  "forks": {"warm": 2, "hits": 38, "taken": 40, "templates": []},
  "admission": {"memory": {"promised": 201326592, "whole": 2147483648, "available": 1073741824},
                "cpus": {"promised": 0.25, "whole": 16},
                "waiting": [{"name": "raft-2", "memory": 2147483648, "cpus": 2, "program": "raft_test", "peer": 78,
                             "seconds": 1}]}})");

TEST(PoolReport, AlignsWhatIsHeldAndWaitedForAndTellsHowOftenAForkWasReady) {
  EXPECT_EQ(ReportOf(kBusy, std::chrono::seconds(1), false),
            "  memory  192 MiB of 2 GiB given out, 1 GiB free\n"
            "  cpus    0.25 of 16 given out\n"
            "  forks   2 ready; 38 of 40 leases (95 %) found one ready\n"
            "  VM      MEMORY   CPUS  HELD BY         FOR\n"
            "  kv      128 MiB  0.25  kv_test (77)    61 s\n"
            "  raft-2  2 GiB    2     raft_test (78)  waits 2 s\n");
}

TEST(PoolReport, SaysThatNothingIsHeld) {
  json idle = kBusy;
  idle["leases"] = idle["admission"]["waiting"] = json::array();
  idle["forks"] = {{"warm", 0}, {"hits", 0}, {"taken", 0}};
  EXPECT_THAT(ReportOf(idle, {}, false), AllOf(HasSubstr("  no VM is held\n"), Not(HasSubstr("forks"))));
}

}  // namespace
}  // namespace mayfly::cli
