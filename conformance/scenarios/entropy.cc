#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kEntropyRng, "the guest reads random bytes of the host, never the same") {
  Vm& vm = Boot();
  EXPECT_THAT(vm.Exec("cat /sys/class/misc/hw_random/rng_current"), Prints(StartsWith("virtio_rng")));
  std::string first = Out(vm, "dd if=/dev/hwrng bs=16 count=1 2>/dev/null | xxd -p");
  EXPECT_EQ(first.size(), 33U) << first;
  EXPECT_THAT(vm.Exec("dd if=/dev/hwrng bs=16 count=1 2>/dev/null | xxd -p"), Prints(Not(first)));
}

REFUSAL_FOR(kEntropyRng, "a guest without the device has none") {
  Vm& vm = Boot({.rng = false});
  EXPECT_THAT(vm.Exec("cat /sys/class/misc/hw_random/rng_current"), Prints(Not(StartsWith("virtio_rng"))));
}

}  // namespace
}  // namespace mayfly::conformance
