#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/error_of_fixture.h>

#include <filesystem>
#include <fstream>

#include "cli/commands.h"
#include "cli/emulated_host.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using internal::ErrorOf;
using testing::HasSubstr;

TEST(EmulatedHost, OnlySharesAreWritable) {
  internal::TestDirectory directory;
  MachineSpec spec = SpecOfEmulatedHost({.shares = {directory.path()}});
  ASSERT_EQ(spec.shares.size(), 2);
  EXPECT_EQ(spec.shares[0].path, "/");
  EXPECT_TRUE(spec.shares[0].readonly);
  EXPECT_EQ(spec.shares[1].path, directory.path());
  EXPECT_FALSE(spec.shares[1].readonly);
  EXPECT_TRUE(spec.nested_virtualization);
  EXPECT_NO_THROW(Validate(spec));
}

TEST(EmulatedHost, AShareIsAtItsPlaceWhateverItsName) {
  internal::TestDirectory directory;
  std::filesystem::path odd = directory / "it's $(odd)";
  std::filesystem::create_directory(odd);
  std::filesystem::create_directory_symlink(odd, directory / "link");
  std::string word = "'/host/root" + directory.path().string() + "/it'\\''s $(odd)'";
  EXPECT_THAT(SetUpScript({.shares = {directory / "link"}}), HasSubstr("mount -t virtiofs share0 " + word + "\n"));
}

TEST(EmulatedHost, WithAnIommuHasADiskBehindItToHandOn) {
  MachineSpec spec = SpecOfEmulatedHost({.iommu = true});
  EXPECT_TRUE(spec.iommu);
  ASSERT_EQ(spec.disks.size(), 1);
  EXPECT_NO_THROW(Validate(spec));
  EXPECT_THAT(SetUpScript({.iommu = true}), HasSubstr("MAYFLY_VFIO_DEVICE"));
  EXPECT_THAT(SetUpScript({}), testing::Not(HasSubstr("vfio")));
}

TEST(EmulatedHost, HasTheHugePagesAskedForOrIsNotReady) {
  EXPECT_THAT(SetUpScript({.hugepages = Bytes(64 << 20)}),
              HasSubstr("echo 32 > /proc/sys/vm/nr_hugepages\n[ $(cat /proc/sys/vm/nr_hugepages) = 32 ]\n"));
  EXPECT_THAT(SetUpScript({}), testing::Not(HasSubstr("nr_hugepages")));
}

TEST(EmulatedHost, AShareThatIsNoDirectoryIsRefused) {
  internal::TestDirectory directory;
  std::ofstream(directory / "file") << "x";
  for (const char* name : {"file", "none"}) {
    EXPECT_THAT(ErrorOf<BadSpec>([&] { SpecOfEmulatedHost({.shares = {directory / name}}); }),
                HasSubstr("is no directory"));
  }
}

struct WrongRow {
  std::vector<std::string> words;
  const char* told;
};

TEST(HostCommand, WrongCommandLinesAreRefusedBeforeAnythingStarts) {
  for (const WrongRow& row :
       {WrongRow{{"host"}, "host: the command is missing"}, WrongRow{{"host", "--"}, "host: the command is missing"},
        WrongRow{{"host", "ls"}, "mayfly host -- ls"},
        WrongRow{{"host", "--cpus", "0", "--", "ls"}, "host: cpus: 0 is not allowed"},
        WrongRow{{"host", "--user", "me", "--", "ls"}, "commands begin as root"},
        WrongRow{{"host", "--memory", "1G", "--hugepages", "1G", "--", "ls"}, "more than half of its memory"},
        WrongRow{{"host", "--share", "/none", "--", "ls"}, "\"/none\" is no directory"}}) {
    Outcome outcome = RunMayfly(row.words);
    EXPECT_EQ(outcome.status.code, kRunFailed) << row.told;
    EXPECT_THAT(outcome.err, HasSubstr(row.told));
  }
}

}  // namespace
}  // namespace mayfly::cli
