#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kDeviceRemove, "a device that was added is gone when the call returns, and its id is free again") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  for (int round = 0; round < 2; ++round) {
    vm.machine().AddDisk({.id = "hot", .size = 16_MiB});
    vm.WaitForFile("/sys/block/vda", Scaled(kSoon));
    vm.machine().RemoveDevice("hot");
    EXPECT_FALSE(vm.Stat("/sys/block/vda"));
  }
}

REFUSAL_FOR(kDeviceRemove, "an unknown device and one that is part of the machine are refused") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 4_MiB}}, .machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().RemoveDevice("data"), BadSpec);
  EXPECT_THROW(vm.machine().RemoveDevice("other"), BadSpec);
  EXPECT_THROW(vm.machine().RemoveDevice(""), BadSpec);
  EXPECT_TRUE(vm.Stat("/sys/block/vda"));
}

}  // namespace
}  // namespace mayfly::conformance
