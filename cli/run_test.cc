// mayfly run where no VM comes to life: what the host lacks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class FakeQemu : public testing::Test {
 protected:
  // A program that is a QEMU of this version and otherwise runs `script`.
  Outcome RunWith(const std::string& version, const std::string& script, std::vector<std::string> words) {
    std::string program = directory_ / "qemu";
    internal::WriteWholeFile(program,
                             "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'QEMU emulator version " + version +
                                 "'; exit; fi\n" + script + "\n",
                             0755);
    return RunMayfly(std::move(words), {.environment = {{"MAYFLY_QEMU", program}, {"MAYFLY_ACCEL", "tcg"}}});
  }
  internal::TestDirectory directory_;
};

TEST_F(FakeQemu, ThatIsTooOldIsToldWithBothVersionsAndTheFix) {
  Outcome outcome = RunWith("5.2.0", "exit 1", {"run", "--", "true"});
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("QEMU 5.2.0"), HasSubstr("is too old: mayfly needs 7.2.0 or later"),
                                 HasSubstr("apt-get install qemu-system-x86")));
}

TEST_F(FakeQemu, ThatDiesAtStartIsToldWithItsLastWords) {
  Outcome outcome = RunWith("7.2.0", "echo 'qemu: the moon is in the wrong house' >&2; exit 3", {"run", "--", "true"});
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("the moon is in the wrong house"), HasSubstr("exit code 3")));
}

TEST(Run, SaysThatThereIsNoQemu) {
  Outcome outcome = RunMayfly({"run", "--", "true"}, {.environment = {{"MAYFLY_QEMU", "/no/qemu"}}});
  EXPECT_EQ(outcome.status.code, kRunFailed);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("'/no/qemu', which MAYFLY_QEMU names"), HasSubstr("apt-get install")));
}

}  // namespace
}  // namespace mayfly::cli
