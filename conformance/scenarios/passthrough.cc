#include <mayfly/internal/files.h>

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

// "0x1af4 0x1042": vendor and device.
std::string KindOf(const std::string& device) {
  std::string kind;
  for (const char* file : {"vendor", "device"}) {
    std::filesystem::path path = device.find('/') == std::string::npos ? "/sys/bus/pci/devices/" + device : device;
    std::string text = internal::ReadWholeFile(path / file, 100);
    kind += (kind.empty() ? "" : " ") + text.substr(0, text.find('\n'));
  }
  return kind;
}
constexpr const char* kKinds = "for d in /sys/bus/pci/devices/*; do echo $(cat $d/vendor $d/device); done";

// A disk that is handed on is written and read by the guest itself, past the VMM.
void UseDisk(Vm& vm) {
  vm.WaitForFile("/sys/block/vda", Scaled(kSoon));
  Out(vm, "echo blue | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null && echo 3 > /proc/sys/vm/drop_caches");
  EXPECT_THAT(vm.Exec("head -n 1 /dev/vda"), Prints("blue\n"));
}
bool IsVirtioDisk(const std::string& kind) { return kind == "0x1af4 0x1042"; }

SCENARIO_FOR(kPassthroughVfio, "the guest owns the PCI device, and its own driver runs it") {
  std::string device = DeviceIn("MAYFLY_VFIO_DEVICE");
  std::string kind = KindOf(device);
  Vm& vm = Boot(
      {.passthrough = {{.id = "device", .kind = PassthroughKind::kVfio, .path = device}}, .machine = MachineKind::kPc});
  EXPECT_THAT(vm.Exec(kKinds), Prints(HasSubstr(kind + "\n")));
  if (IsVirtioDisk(kind)) UseDisk(vm);
}

REFUSAL_FOR(kPassthroughVfio, "a device that is not there is refused") {
  EXPECT_THROW(Boot({.passthrough = {{.id = "device", .kind = PassthroughKind::kVfio, .path = "ffff:ff:1f.7"}},
                     .machine = MachineKind::kPc}),
               BadSpec);
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

SCENARIO_FOR(kPassthroughHotplug, "the guest gets a PCI device while it runs, until it is removed") {
  std::string device = DeviceIn("MAYFLY_VFIO_DEVICE");
  std::string kind = KindOf(device);
  Vm& vm = Boot({.machine = MachineKind::kPc});
  int64_t before = Number(vm, kPci);
  vm.machine().AddPassthrough({.id = "device", .kind = PassthroughKind::kVfio, .path = device});
  EXPECT_THAT([&] { return Number(vm, kPci); }, Eventually(testing::Eq(before + 1), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec(kKinds), Prints(HasSubstr(kind + "\n")));
  if (IsVirtioDisk(kind)) UseDisk(vm);
  vm.machine().RemoveDevice("device");
  EXPECT_EQ(Number(vm, kPci), before);
}

REFUSAL_FOR(kPassthroughHotplug, "a device that is not there is refused, and the guest goes on") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().AddPassthrough({.id = "device", .kind = PassthroughKind::kVfio, .path = "ffff:ff:1f.7"}),
               BadSpec);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

}  // namespace
}  // namespace mayfly::conformance
