// A suite of 200 tests that do next to nothing in a VM, so that what it takes is what a VM takes. Run by the benches
// `suite` and `soak`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/mayfly.h>

namespace {

using mayfly::literals::operator""_MiB;

class Suite : public mayfly::VmFixture, public testing::WithParamInterface<int> {
 protected:
  mayfly::MachineSpec Spec() const override { return {.memory = 128_MiB}; }
};

TEST_P(Suite, RunsACommand) { EXPECT_THAT(vm().Exec({"echo", "alive"}), mayfly::Prints("alive\n")); }

INSTANTIATE_TEST_SUITE_P(, Suite, testing::Range(0, 200));

}  // namespace
