#include "drivers/ch/program.h"

#include <gtest/gtest.h>

#include <string>

namespace mayfly::ch {
namespace {

TEST(Program, ReadsTheVersion) {
  auto program = ParseVersion("cloud-hypervisor v53.0.0\nMigration Protocol Versions: 0\n");
  ASSERT_TRUE(program);
  EXPECT_EQ(program->major, 53);
  EXPECT_EQ(program->Text(), "Cloud Hypervisor v53.0.0");
  EXPECT_EQ(ParseVersion("cloud-hypervisor v51.1-dirty")->major, 51);
}

TEST(Program, KnowsWhetherItWasBuiltToDebugGuests) {
  constexpr const char* kText = "cloud-hypervisor v53.0.0\nMigration Protocol Versions: 0\nEnabled features: ";
  EXPECT_FALSE(ParseVersion(kText + std::string(R"(["io_uring", "kvm"])"))->guest_debug);
  EXPECT_TRUE(ParseVersion(kText + std::string(R"(["guest_debug", "io_uring", "kvm"])"))->guest_debug);
}

TEST(Program, KnowsWhatIsNone) {
  for (const char* text :
       {"", "QEMU emulator version 7.2.0", "cloud-hypervisor", "cloud-hypervisor v", "cloud-hypervisor vx.1"}) {
    EXPECT_FALSE(ParseVersion(text)) << text;
  }
}

}  // namespace
}  // namespace mayfly::ch
