// Machines of the driver with real guests. On Linux all of it is simulated: the helper is built over the facsimile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/vm.h>

#include <chrono>
#include <csignal>
#include <string>

#include "drivers/vz/helper_probe.h"
#include "drivers/vz/helper_process.h"
#include "drivers/vz/request.h"

namespace mayfly::vz {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

Deadline Soon() { return Deadline::After(Scaled(seconds(20))); }

MachineStatus AwaitState(Machine& machine, MachineState state) {
  return machine.WaitForStatus([&](const MachineStatus& now) { return now.state == state; }, ToString(state), Soon());
}

class VzGuest : public testing::Test {
 protected:
  void SetUp() override {
    ProbeReport probe = FindDriver("vz").Probe();
    if (!probe.usable) GTEST_SKIP() << "not verified here: " << probe.capabilities.front().reason;
  }

  static Vm Create(MachineSpec spec = {}) {
    spec.driver = "vz";
    return Vm::Create(std::move(spec));
  }
  static std::string Out(Vm& vm, const std::string& command) { return vm.Exec(command).OrThrow().out; }
};

TEST_F(VzGuest, RunsRestartsAndPowersOffAndSaysThatItIsSimulated) {
  Vm vm = Create({.cpus = 2, .balloon = Balloon{}});
  vm.Boot();
  MachineInfo info = vm.machine().Info();
  EXPECT_THAT(info.vmm, StartsWith("simulated Virtualization.framework"));
  EXPECT_EQ(info.accelerator, "simulated");
  EXPECT_EQ(Out(vm, "nproc"), "2\n");
  EXPECT_THAT(Out(vm, "cat /proc/cmdline"), StartsWith("console=hvc0 "));

  // The framework tells nobody of a guest that restarts itself.
  const std::string boot_id = "cat /proc/sys/kernel/random/boot_id";
  std::string first = Out(vm, boot_id);
  vm.Reboot();
  std::string second = Out(vm, boot_id);
  EXPECT_NE(second, first);
  EXPECT_EQ(vm.machine().Info().pid, info.pid);

  vm.machine().Pause();
  EXPECT_TRUE(vm.status().paused);
  EXPECT_THROW(vm.machine().Pause(), BadSpec) << "the framework's guard";
  vm.machine().Resume();
  EXPECT_EQ(Out(vm, "echo here"), "here\n");

  EXPECT_THROW(vm.Exec("echo o > /proc/sysrq-trigger; sleep 600"), Error);
  EXPECT_EQ(AwaitState(vm.machine(), MachineState::kStopped).reason, "the guest powered off");
}

TEST_F(VzGuest, ThatLosesItsHelperIsFailedInEachState) {
  Vm vm = Create();
  vm.Boot();
  ASSERT_EQ(kill(vm.machine().Info().pid, SIGKILL), 0);
  EXPECT_THAT(AwaitState(vm.machine(), MachineState::kFailed).reason, HasSubstr("killed by SIGKILL"));
  EXPECT_THROW(vm.machine().PowerButton(), BadSpec);

  vm.Boot();
  vm.machine().Pause();
  ASSERT_EQ(kill(vm.machine().Info().pid, SIGKILL), 0);
  AwaitState(vm.machine(), MachineState::kFailed);
  EXPECT_THROW(vm.machine().Resume(), BadSpec);
  vm.Kill();
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
}

// Guests that need not come up: the framework's part is done when they run.
class VzStart : public VzGuest {
 protected:
  static nlohmann::json Make(HelperProcess& helper, const Sandbox& sandbox, const std::vector<uint8_t>& identifier) {
    MachineSpec spec = ResolveImage({.name = "kv", .agent = false});
    CreateRequest request = MakeCreateRequest(spec, {}, sandbox, identifier);
    return helper.Call("create", request.body, request.descriptors, Soon());
  }
};

TEST_F(VzStart, TwoMachinesWithOneIdentifierDoNotRunAtOnce) {
  Sandbox one = Sandbox::Create("vz");
  Sandbox other = Sandbox::Create("vz");
  HelperProcess first(one, {.program = ProbeHelper().program, .log = one.Path("vmm.log")});
  HelperProcess second(other, {.program = ProbeHelper().program, .log = other.Path("vmm.log")});
  std::vector<uint8_t> identifier = Make(first, one, {}).at("machine_identifier").get_binary();
  Make(second, other, identifier);
  first.Call("start", nlohmann::json::object(), {}, Soon());
  try {
    second.Call("start", nlohmann::json::object(), {}, Soon());
    FAIL() << "it runs";
  } catch (const VmmDied& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("The virtual machine failed to start."), HasSubstr("busy")));
  }
  first.Call("stop", nlohmann::json::object(), {}, Soon());
  second.Call("start", nlohmann::json::object(), {}, Soon());
}

}  // namespace
}  // namespace mayfly::vz
