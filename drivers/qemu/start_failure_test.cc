#include "drivers/qemu/start_failure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>

namespace mayfly::internal {
namespace {

using ::testing::HasSubstr;

struct Row {
  const char* name;
  const char* words;
  const char* kind;
  const char* tells;
};

class StartFailureTest : public testing::TestWithParam<Row> {};

TEST_P(StartFailureTest, BecomesTheErrorOfWhoseFaultItIsWithQemusWords) {
  try {
    ThrowQemuDidNotStart({.name = "kv",
                          .machine = "microvm",
                          .version = "QEMU 7.2.22 (/q)",
                          .trouble = "QMP: QEMU closed its control socket",
                          .ended = "QEMU ended: exit code 1",
                          .last_words = {GetParam().words},
                          .log = "/vm/vmm.log"});
  } catch (const Error& error) {
    EXPECT_STREQ(error.kind(), GetParam().kind);
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("cannot boot 'kv' (qemu, microvm)"), HasSubstr(GetParam().words),
                                             HasSubstr(GetParam().tells)));
  }
}

TEST(StartFailure, OfARestoreHasTheLastWordsAndNoLogThatGoesWithItsSandbox) {
  try {
    ThrowQemuDidNotStart({.name = "kv",
                          .machine = "microvm",
                          .version = "QEMU 7.2.22 (/q)",
                          .trouble = "the state was not restored",
                          .ended = "QEMU ended: exit code 1",
                          .last_words = {"qemu: Unknown savevm section"},
                          .log = "/vm/vmm.log",
                          .restore = true});
  } catch (const VmmDied& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("cannot restore 'kv' (qemu, microvm)"), HasSubstr("Unknown savevm section"),
                               HasSubstr("MAYFLY_FORK=off"), testing::Not(HasSubstr("vmm.log"))));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Words, StartFailureTest,
    testing::Values(
        Row{"Kernel", "qemu: could not load kernel '/k': No such file or directory", "BadSpec", "boot.kernel"},
        Row{"Lock", "qemu: -blockdev …: Failed to get \"write\" lock", "HostLacks", "in use by another process"},
        Row{"Full", "qemu: cannot write: No space left on device", "HostLacks", "MAYFLY_RUNTIME_DIR"},
        Row{"Memory", "qemu: cannot set up guest memory 'ram': Cannot allocate memory", "HostLacks", "less memory"},
        Row{"HugePages", "qemu: unable to map backing store for guest RAM: Cannot allocate memory", "HostLacks",
            "vm.nr_hugepages"},
        Row{"State", "qemu: load of migration failed: Input/output error", "HostLacks", "MAYFLY_VERIFY=1"},
        Row{"Unknown", "qemu: -frob: invalid option", "VmmDied", "/vm/vmm.log"}),
    [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace mayfly::internal
