#include <fmt/format.h>
#include <mayfly/agent.h>

#include <future>
#include <regex>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

// A process of the guest that counts in memory only, and says the number when asked for it.
constexpr const char* kCount = "n=0; while read -r line; do n=$((n + 1)); echo \"n=$n\"; done";

// Another one that goes on counting, into a file: by renaming, so that nobody reads it when it is empty.
constexpr const char* kCountFile =
    "n=0; (while true; do n=$((n + 1)); echo $n > /run/new; mv /run/new /run/n; sleep 0.1; done) >/dev/null 2>&1 & "
    "echo $! > /run/pid";

SCENARIO_FOR(kStatePause, "a paused guest answers nothing, and goes on where it was") {
  Vm& vm = Boot();
  Out(vm, "echo blue > /run/colour");
  vm.machine().Pause();
  EXPECT_TRUE(vm.status().paused);
  auto answer = std::async(std::launch::async, [&] { return Out(vm, "cat /run/colour"); });
  EXPECT_EQ(answer.wait_for(1s), std::future_status::timeout) << "a paused guest answered";
  vm.machine().Resume();
  EXPECT_FALSE(vm.status().paused);
  EXPECT_EQ(answer.get(), "blue\n");
}

REFUSAL_FOR(kStatePause, "a paused machine can be killed, and a stopped one cannot be paused") {
  Vm& vm = Boot();
  vm.machine().Pause();
  vm.Kill();
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  EXPECT_THROW(vm.machine().Pause(), BadSpec);
  vm.Boot();
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

SCENARIO_FOR(kStateSnapshot, "a saved machine is a directory, and the guest goes on unharmed") {
  Vm& vm = Boot();
  GuestProcess counter = vm.Start(kCount, {.open_stdin = true});
  counter.WriteStdin("\n");
  counter.WaitForOutput("n=1", Scaled(kSoon));
  auto directory = Directory() / "saved";
  vm.machine().Snapshot(directory);
  EXPECT_FALSE(std::filesystem::is_empty(directory));
  counter.WriteStdin("\n");
  counter.WaitForOutput("n=2", Scaled(kSoon));
  EXPECT_THROW(vm.machine().Snapshot(directory), Error) << "into a directory that is there";
}

SCENARIO_FOR(kStateRestore, "a restored guest has its processes and what it had not synced, and nothing of later") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  Out(vm, kCountFile);
  // Keeps the disk open, so that what was written to it stays in the guest's page cache.
  Out(vm, "(exec 3<>/dev/vda; echo blue >&3; touch /run/written; sleep 600) >/dev/null 2>&1 &");
  for (const char* file : {"/run/n", "/run/written"}) vm.WaitForFile(file, Scaled(kSoon));
  int64_t saved = Number(vm, "cat /run/n");
  vm.Snapshot("saved");
  Out(vm, "echo red > /run/later; kill $(cat /run/pid); rm /run/n");
  vm.Revert("saved");
  EXPECT_FALSE(vm.Stat("/run/later"));
  EXPECT_THAT(vm.Exec("head -n 1 /dev/vda"), Prints("blue\n"));
  EXPECT_THAT(vm.Exec("kill -0 $(cat /run/pid)"), Succeeds()) << "the process that counts is gone";
  EXPECT_THAT([&] { return Number(vm, "cat /run/n"); }, Eventually(testing::Gt(saved), Scaled(kSoon)));
}

REFUSAL_FOR(kStateRestore, "what was never saved is refused, and the guest goes on") {
  Vm& vm = Boot();
  EXPECT_THROW(vm.Revert("never"), BadSpec);
  EXPECT_THROW(vm.machine().Restore(Directory() / "none"), Error);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

// An open TCP connection of the guest: what is written to /run/to arrives in /run/arrived. Neither side says anything
// else, nor that it has said all.
constexpr const char* kConnection =
    "ip link set lo up; mkfifo /run/to /run/back; (exec 3<>/run/back; nc -l -p 7000 <&3 > /run/arrived) 2>/dev/null & "
    "(exec 3<>/run/to; until nc 127.0.0.1 7000 <&3; do usleep 50000; done) >/dev/null 2>&1 &";

// Moves a guest by this address, and finds in the other process what it had: its processes go on, its connection is
// still open, and it is told how long it stood still.
void Move(Vm& source, Vm& destination, const std::string& url) {
  Out(source, "echo blue > /run/unsynced");
  Out(source, kCountFile);
  Out(source, kConnection);
  source.WaitForFile("/run/n", Scaled(kSoon));
  Out(source, "echo before > /run/to");
  source.WaitUntilSucceeds("grep -q before /run/arrived", Scaled(kSoon));
  std::string boot_id = Out(source, "cat /proc/sys/kernel/random/boot_id");
  int64_t before = Number(source, "cat /run/n");

  Machine& receiver = destination.machine();
  auto received = std::async(std::launch::async, [&] {
    try {
      receiver.ReceiveMigration(url);
    } catch (...) {
      receiver.timeline().Add("conformance", "listening", "");  // it never will
      throw;
    }
  });
  auto listening =
      receiver.timeline().WaitFor([](const Event& e) { return e.name == "listening"; }, Deadline::After(Scaled(kSoon)));
  if (listening && !listening->detail.empty()) source.machine().SendMigration(listening->detail);
  received.get();

  EXPECT_EQ(AwaitState(source, MachineState::kStopped).reason.substr(0, 5), "moved");
  auto moved =
      source.machine().timeline().WaitFor([](const Event& e) { return e.name == "moved"; }, Deadline::After(0s));
  EXPECT_TRUE(moved && std::regex_search(moved->detail, std::regex("stood still for [0-9]+ ms"))) << "for how long?";
  Agent agent(receiver.ConnectAgent(), receiver.timeline(), {.name = destination.name(), .transcript = {}});
  agent.WaitForHello(Deadline::After(Scaled(kSoon)));
  auto there = [&](const char* command) { return agent.Exec(command).OrThrow().out; };
  EXPECT_EQ(there("cat /proc/sys/kernel/random/boot_id"), boot_id);
  EXPECT_EQ(there("cat /run/unsynced"), "blue\n");
  EXPECT_THAT([&] { return std::stoll(there("cat /run/n")); }, Eventually(testing::Gt(before), Scaled(kSoon)));
  there("echo after > /run/to");
  EXPECT_THAT([&] { return there("cat /run/arrived"); }, Eventually(testing::Eq("before\nafter\n"), Scaled(kSoon)));
}

SCENARIO_FOR(kStateMigration, "a running guest moves to another VMM process with its processes") {
  MachineSpec spec{.name = "moves"};
  Vm& source = Boot(spec);
  Move(source, Create(spec), "unix:" + (Directory() / "migration").string());
}

SCENARIO_FOR(kStateMigration, "a running guest moves over TCP") {
  MachineSpec spec{.name = "moves"};
  Vm& source = Boot(spec);
  Move(source, Create(spec), "tcp:127.0.0.1:0");
}

REFUSAL_FOR(kStateMigration, "where nobody receives it the guest stays and goes on") {
  Vm& vm = Boot();
  EXPECT_THROW(vm.machine().SendMigration("unix:" + (Directory() / "nobody").string()), Error);
  EXPECT_THROW(vm.machine().SendMigration("carrier pigeon"), BadSpec);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
  EXPECT_EQ(vm.status().state, MachineState::kReady);
}

SCENARIO_FOR(kStateCounters, "the counters of a disk are what the guest did") {
  Vm& vm = Boot({.disks = {{.id = "busy", .size = 16_MiB}, {.id = "idle", .size = 16_MiB}}});
  auto written = [&](const char* disk) { return vm.machine().Counters().at(disk).at("written_bytes"); };
  uint64_t busy = written("busy");
  uint64_t idle = written("idle");
  Out(vm, "dd if=/dev/zero of=/dev/vda bs=1M count=4 conv=fsync 2>/dev/null");
  EXPECT_EQ(written("busy") - busy, (4_MiB).count());
  EXPECT_EQ(written("idle"), idle);
}

REFUSAL_FOR(kStateCounters, "a stopped machine counts nothing") {
  Vm& vm = Boot();
  vm.Kill();
  EXPECT_THROW(vm.machine().Counters(), BadSpec);
}

}  // namespace
}  // namespace mayfly::conformance
