#include <mayfly/internal/virtiofsd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mayfly::internal {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

const VirtiofsdProgram kRust = {.path = "/bin/virtiofsd", .kind = VirtiofsdKind::kRust};
const VirtiofsdProgram kQemu = {.path = "/lib/virtiofsd", .kind = VirtiofsdKind::kQemu};

TEST(VirtiofsdCommand, IsThatOfTheProgram) {
  Share share{.tag = "s", .path = "/src"};
  EXPECT_THAT(VirtiofsdCommand(kRust, share, "/ro"),
              ElementsAre("/bin/virtiofsd", "--fd=3", "--shared-dir", "/src", "--cache=auto"));
  EXPECT_THAT(VirtiofsdCommand(kQemu, share, "/ro"),
              ElementsAre("/lib/virtiofsd", "-f", "--fd=3", "-o", "source=/src", "-o", "cache=auto"));
}

TEST(VirtiofsdCommand, ReadOnlyIsAnOptionOrAnotherView) {
  Share share{.tag = "s", .path = "/src", .readonly = true};
  EXPECT_THAT(VirtiofsdCommand(kRust, share, "/ro"), Contains("--readonly"));
  std::vector<std::string> command = VirtiofsdCommand(kQemu, share, "/ro");
  EXPECT_EQ(command.front(), "unshare");
  EXPECT_THAT(command, Contains("source=/ro"));
  EXPECT_THAT(command, Not(Contains("source=/src")));
}

}  // namespace
}  // namespace mayfly::internal
