#include <mayfly/internal/unique_fd.h>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kIntervmVsock, "the host connects to a port of the guest without a network") {
  Vm& vm = Boot({.vsock = Vsock{}});
  Out(vm, "modprobe vmw_vsock_virtio_transport");
  EXPECT_THAT(vm.Exec("ls /sys/class/net"), Prints("lo\n"));
  EXPECT_TRUE(vm.machine().ConnectVsock(1024));
}

SCENARIO_FOR(kIntervmVsockHotplug, "the guest gets a vsock device while it runs") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  vm.machine().AddVsock({});
  Out(vm, "modprobe vmw_vsock_virtio_transport");
  EXPECT_TRUE(vm.machine().ConnectVsock(1024));
}

SCENARIO_FOR(kIntervmL2Switch, "guests exchange frames through a switch, and no third one sees them") {
  RequireOffered();
}

}  // namespace
}  // namespace mayfly::conformance
