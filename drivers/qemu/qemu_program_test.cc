#include "drivers/qemu/qemu_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/test_directory.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "drivers/qemu/capabilities.h"

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Sets variables of the environment until the test ends.
class QemuProgramTest : public testing::Test {
 protected:
  void SetUp() override { Set("MAYFLY_CACHE_DIR", (directory_ / "cache").c_str()); }
  void TearDown() override {
    for (const auto& [name, value] : before_) value ? setenv(name, value->c_str(), 1) : unsetenv(name);
  }

  void Set(const char* name, const char* value) {
    const char* now = std::getenv(name);
    before_.emplace_back(name, now != nullptr ? std::optional<std::string>(now) : std::nullopt);
    setenv(name, value, 1);
  }

  // A program that prints `output`, as `qemu --version` does.
  void UseProgramThatPrints(const std::string& output) {
    fs::path program = directory_ / "qemu";
    std::ofstream(program) << "#!/bin/sh\necho '" << output << "'\n";
    chmod(program.c_str(), 0755);
    Set("MAYFLY_QEMU", program.c_str());
  }

  std::string Refusal() {
    try {
      FindQemu();
    } catch (const HostLacks& error) {
      return error.what();
    }
    return "accepted";
  }

  TestDirectory directory_;

 private:
  std::vector<std::pair<const char*, std::optional<std::string>>> before_;
};

TEST(ParseQemuVersion, ReadsWhatQemuPrints) {
  auto version = ParseQemuVersion("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c)");
  ASSERT_TRUE(version);
  EXPECT_EQ(*version, (QemuVersion{7, 2, 22}));
  EXPECT_EQ(*ParseQemuVersion("QEMU emulator version 10.0.0"), (QemuVersion{10, 0, 0}));
  EXPECT_LT((QemuVersion{7, 2, 22}), (QemuVersion{10, 0, 0}));
  EXPECT_EQ(ParseQemuVersion("GNU bash, version 5.2"), std::nullopt);
  EXPECT_EQ(ParseQemuVersion("QEMU emulator version banana"), std::nullopt);
}

TEST_F(QemuProgramTest, MissingIsToldWithWhereItWasLookedForAndHowToGetIt) {
  Set("PATH", "/nowhere");
  EXPECT_THAT(Refusal(), testing::AllOf(HasSubstr("qemu-system-x86_64"), HasSubstr("PATH: /nowhere"),
                                        HasSubstr("apt-get install qemu-system-x86"), HasSubstr("MAYFLY_QEMU")));
}

TEST_F(QemuProgramTest, AVariableThatNamesNothingIsNamed) {
  Set("MAYFLY_QEMU", "/nowhere/qemu");
  EXPECT_THAT(Refusal(), HasSubstr("'/nowhere/qemu', which MAYFLY_QEMU names"));
}

TEST_F(QemuProgramTest, TooOldIsToldWithBothVersions) {
  UseProgramThatPrints("QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)");
  EXPECT_THAT(Refusal(), testing::AllOf(HasSubstr("QEMU 5.2.0"), HasSubstr("needs 7.2.0 or later")));
}

TEST_F(QemuProgramTest, AnotherProgramIsNoQemu) {
  UseProgramThatPrints("I am a teapot");
  EXPECT_THAT(Refusal(), testing::AllOf(HasSubstr("is no QEMU"), HasSubstr("I am a teapot")));
}

TEST_F(QemuProgramTest, AnUpgradeInPlaceIsSeenDespiteTheCache) {
  UseProgramThatPrints("QEMU emulator version 8.0.0");
  EXPECT_EQ(FindQemu().version, (QemuVersion{8, 0, 0}));
  UseProgramThatPrints("QEMU emulator version 10.1.12");
  EXPECT_EQ(FindQemu().version, (QemuVersion{10, 1, 12}));
}

TEST_F(QemuProgramTest, ExtraArgumentsAreSplitAtSpaces) {
  Set("MAYFLY_QEMU_ARGS", "  -d   guest_errors -D x ");
  EXPECT_EQ(ExtraQemuArguments(), (std::vector<std::string>{"-d", "guest_errors", "-D", "x"}));
}

TEST_F(QemuProgramTest, ProbeWithoutQemuTellsForEachCapabilityWhyAndWhatHelps) {
  Set("PATH", "/nowhere");
  ProbeReport report = FindDriver("qemu").Probe();
  EXPECT_FALSE(report.usable);
  ASSERT_EQ(report.capabilities.size(), kCapabilityCount);
  for (const CapabilityReport& row : report.capabilities) {
    EXPECT_FALSE(row.available) << ToString(row.capability);
    EXPECT_FALSE(row.reason.empty()) << ToString(row.capability);
  }
  EXPECT_THAT(report.capabilities[0].fix, HasSubstr("apt-get install"));
}

// --- The table of capabilities --------------------------------------------------------------------------------------

TEST(QemuCapabilities, EachRowStandsForItsCapabilityAndGivesAReason) {
  for (Capability capability : AllCapabilities()) {
    EXPECT_EQ(QemuCapabilityOf(capability).capability, capability) << ToString(capability);
    EXPECT_FALSE(QemuCapabilityOf(capability).reason.empty()) << ToString(capability);
  }
}

TEST(QemuCopies, AreNotMadeWhereTheyWouldChangeWhatTheyShare) {
  MachineSpec plain;
  EXPECT_EQ(WhyQemuCannotCopy(plain), "");
  MachineSpec balloon;
  balloon.balloon = Balloon{};
  EXPECT_THAT(WhyQemuCannotCopy(balloon), testing::StartsWith("balloon:"));
  EXPECT_EQ(WhyQemuCannotSave(balloon), "") << "it goes on from what was saved, alone";
  MachineSpec zone;
  zone.zones = {{.id = "grows", .size = Bytes(1 << 27), .max_size = Bytes(1 << 28)}};
  EXPECT_THAT(WhyQemuCannotCopy(zone), testing::StartsWith("zone 'grows':"));
  MachineSpec tap;
  tap.nics = {{.id = "lan", .kind = NicKind::kTap}};
  EXPECT_EQ(WhyQemuCannotCopy(tap), "") << "each copy has a device of its own";
  tap.nics[0].source = "tap3";
  EXPECT_THAT(WhyQemuCannotCopy(tap), testing::StartsWith("nic 'lan': tap3"));
}

struct RefusedRow {
  Capability capability;
  void (*ask)(MachineSpec&);
};

class RefusedCapability : public testing::TestWithParam<RefusedRow> {};

TEST_P(RefusedCapability, IsRefusedWhenASpecAsksForIt) {
  MachineSpec spec;
  spec.boot.kernel = "/k";
  RefuseWhatIsNotOffered(spec);  // not without it
  GetParam().ask(spec);
  try {
    RefuseWhatIsNotOffered(spec);
    FAIL() << "silently ignored";
  } catch (const Unsupported& error) {
    EXPECT_EQ(error.capability(), GetParam().capability);
    EXPECT_EQ(error.driver(), "qemu");
    EXPECT_EQ(error.reason(), QemuCapabilityOf(GetParam().capability).reason);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Specs, RefusedCapability,
    testing::Values(RefusedRow{Capability::kNetworkBridged,
                               [](MachineSpec& s) { s.nics.push_back({.kind = NicKind::kBridged}); }},
                    RefusedRow{Capability::kNetworkVhostUser,
                               [](MachineSpec& s) { s.nics.push_back({.kind = NicKind::kVhostUser}); }},
                    RefusedRow{Capability::kPlatformRosetta, [](MachineSpec& s) { s.rosetta = true; }},
                    RefusedRow{Capability::kPassthroughVdpa,
                               [](MachineSpec& s) { s.passthrough.push_back({.kind = PassthroughKind::kVdpa}); }},
                    RefusedRow{Capability::kPassthroughVfioUser,
                               [](MachineSpec& s) { s.passthrough.push_back({.kind = PassthroughKind::kVfioUser}); }}),
    [](const auto& row) {
      std::string name(ToString(row.param.capability));
      std::erase_if(name, [](char c) { return c == '.' || c == '_'; });
      return name;
    });

}  // namespace
}  // namespace mayfly::internal
