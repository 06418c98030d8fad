#include <mayfly/machine.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>

#include <functional>
#include <thread>
#include <vector>

namespace mayfly {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// A backend that has the lifecycle only: what every driver is before it overrides anything.
class BareMachine : public Machine {
 public:
  BareMachine() : Machine("bare", MachineSpec{.name = "kv"}, Sandbox::Create("bare")) {}
  MachineInfo Info() const override { return {.driver = "bare"}; }
  void Boot() override { SetState(MachineState::kRunning, "booted"); }
  bool Stop(Duration) override {
    SetState(MachineState::kStopped, "stopped");
    return true;
  }
  void Kill() override { SetState(MachineState::kStopped, "killed"); }
  void Reset() override {}
  internal::UniqueFd ConnectAgent() override { return {}; }
  void Fail(std::string reason) { SetState(MachineState::kFailed, std::move(reason)); }

 protected:
  std::string WhyUnsupported(Capability) const override { return "it is bare"; }
};

TEST(Machine, RefusesEveryOptionalOperationByItsCapability) {
  BareMachine machine;
  struct Row {
    Capability capability;
    std::function<void()> operation;
  };
  const std::vector<Row> rows = {
      {Capability::kStatePause, [&] { machine.Pause(); }},
      {Capability::kStatePause, [&] { machine.Resume(); }},
      {Capability::kLifecyclePowerButton, [&] { machine.PowerButton(); }},
      {Capability::kCpuHotplug, [&] { machine.ResizeCpus(2); }},
      {Capability::kMemoryHotplug, [&] { machine.ResizeMemory(Bytes(1)); }},
      {Capability::kMemoryZoneResize, [&] { machine.ResizeZone("z", Bytes(1)); }},
      {Capability::kMemoryBalloon, [&] { machine.SetBalloon(Bytes(1)); }},
      {Capability::kStorageHotplug, [&] { machine.AddDisk({}); }},
      {Capability::kStorageResize, [&] { machine.ResizeDisk("d", Bytes(1)); }},
      {Capability::kStorageRateLimit, [&] { machine.SetRateLimit("d", {}); }},
      {Capability::kNetworkHotplug, [&] { machine.AddNic({}); }},
      {Capability::kNetworkAttachmentSwap, [&] { machine.AttachNic({}); }},
      {Capability::kNetworkTap, [&] { machine.HostEndOf("n"); }},
      {Capability::kShareHotplug, [&] { machine.AddShare({}); }},
      {Capability::kStoragePmem, [&] { machine.AddPmem({}); }},
      {Capability::kIntervmVsockHotplug, [&] { machine.AddVsock({}); }},
      {Capability::kPassthroughHotplug, [&] { machine.AddPassthrough({}); }},
      {Capability::kDeviceRemove, [&] { machine.RemoveDevice("d"); }},
      {Capability::kIntervmVsock, [&] { machine.ConnectVsock(1); }},
      {Capability::kIntervmVsock, [&] { machine.ListenVsock(1); }},
      {Capability::kStateSnapshot, [&] { machine.Snapshot("d"); }},
      {Capability::kStateRestore, [&] { machine.Restore("d"); }},
      {Capability::kStateMigration, [&] { machine.SendMigration("unix:p"); }},
      {Capability::kStateMigration, [&] { machine.ReceiveMigration("unix:p"); }},
      {Capability::kStateCounters, [&] { machine.Counters(); }},
      {Capability::kDebugNmi, [&] { machine.InjectNmi(); }},
      {Capability::kDebugCoredump, [&] { machine.CoreDump("f"); }},
      {Capability::kPlatformGraphics, [&] { machine.Screenshot("f"); }},
  };
  for (const Row& row : rows) {
    try {
      row.operation();
      ADD_FAILURE() << ToString(row.capability) << " did nothing";
    } catch (const Unsupported& error) {
      EXPECT_EQ(error.capability(), row.capability);
      EXPECT_EQ(error.driver(), "bare");
      EXPECT_THAT(error.what(), HasSubstr(std::string(ToString(row.capability))));
      EXPECT_THAT(error.what(), HasSubstr("it is bare"));
    }
  }
}

TEST(Machine, WakesAWaitForItsStatus) {
  BareMachine machine;
  std::thread backend([&] {
    machine.Boot();
    machine.MarkReady("agent");
    machine.Fail("QEMU was killed by SIGSEGV");
  });
  MachineStatus status = machine.WaitForStatus([](const MachineStatus& s) { return s.state == MachineState::kFailed; },
                                               "failure", Deadline::After(seconds(20)));
  backend.join();
  EXPECT_EQ(status.reason, "QEMU was killed by SIGSEGV");
  std::vector<std::string> states;
  for (const Event& event : machine.timeline().Events()) states.push_back(event.detail);
  EXPECT_THAT(states, testing::ElementsAre("Stopped: created", "Running: booted", "Ready: agent",
                                           "Failed: QEMU was killed by SIGSEGV"));
}

TEST(Machine, AWaitThatTimesOutSaysWhatItWaitedForAndWhatIs) {
  BareMachine machine;
  try {
    machine.WaitForStatus([](const MachineStatus& s) { return s.state == MachineState::kReady; }, "a ready guest",
                          Deadline::After(milliseconds(5)));
    FAIL() << "it became ready";
  } catch (const Timeout& error) {
    EXPECT_THAT(error.what(), HasSubstr("'kv' (bare): a ready guest did not come in"));
    EXPECT_THAT(error.what(), HasSubstr("state: Stopped, created"));
  }
}

TEST(Machine, OnlyARunningGuestBecomesReady) {
  BareMachine machine;
  machine.MarkReady("late answer of a guest that is gone");
  EXPECT_EQ(machine.status().state, MachineState::kStopped);
}

TEST(Machine, AGuestThatIsReadyForAnotherReasonHasRestarted) {
  BareMachine machine;
  machine.Boot();
  machine.MarkReady("boot 1");
  machine.MarkReady("boot 1");
  EXPECT_EQ(machine.status(), (MachineStatus{MachineState::kReady, "boot 1"}));
  size_t from = machine.timeline().size();
  machine.MarkReady("boot 2");
  EXPECT_EQ(machine.status(), (MachineStatus{MachineState::kReady, "boot 2"}));
  std::vector<Event> events = machine.timeline().Events();
  ASSERT_EQ(events.size(), from + 2);
  EXPECT_EQ(events[from].detail, "Running: the guest restarted");
}

}  // namespace
}  // namespace mayfly
