#include <cstdlib>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

// A device of this host that a guest may own: only who set the host up can name it.
std::string DeviceIn(const char* variable) {
  const char* device = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  if (device == nullptr || *device == '\0') {
    throw HostLacks({.summary = std::string(variable) + " does not name a device that a guest may own",
                     .next_step = std::string("set ") + variable});
  }
  return device;
}

constexpr const char* kPci = "ls /sys/bus/pci/devices | wc -l";

SCENARIO_FOR(kPassthroughVfio, "the guest has one PCI device more") {
  std::string device = DeviceIn("MAYFLY_VFIO_DEVICE");
  int64_t before = Number(Boot({.machine = MachineKind::kPc}), kPci);
  Vm& vm = Boot(
      {.passthrough = {{.id = "device", .kind = PassthroughKind::kVfio, .path = device}}, .machine = MachineKind::kPc});
  EXPECT_EQ(Number(vm, kPci), before + 1);
}

SCENARIO_FOR(kPassthroughVdpa, "the guest has the disk of a vDPA device") {
  std::string device = DeviceIn("MAYFLY_VDPA_DEVICE");
  Vm& vm = Boot({.passthrough = {{.id = "device", .kind = PassthroughKind::kVdpa, .path = device}}});
  vm.WaitForFile("/sys/block/vda", Scaled(kSoon));
}

SCENARIO_FOR(kPassthroughVfioUser, "another process emulates a PCI device of the guest") {
  Vm& vm =
      Boot({.passthrough = {{.id = "device", .kind = PassthroughKind::kVfioUser, .path = Directory() / "server"}}});
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

SCENARIO_FOR(kPassthroughHotplug, "the guest gets a PCI device while it runs") {
  std::string device = DeviceIn("MAYFLY_VFIO_DEVICE");
  Vm& vm = Boot({.machine = MachineKind::kPc});
  int64_t before = Number(vm, kPci);
  vm.machine().AddPassthrough({.id = "device", .kind = PassthroughKind::kVfio, .path = device});
  EXPECT_THAT([&] { return Number(vm, kPci); }, Eventually(testing::Eq(before + 1), Scaled(kSoon)));
}

}  // namespace
}  // namespace mayfly::conformance
