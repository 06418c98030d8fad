#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/seed_iso.h>
#include <mayfly/internal/small_file_system.h>
#include <mayfly/internal/test_directory.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using literals::operator""_MiB;

class DiskImageTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directory(directory_ / "vm"); }

  fs::path Image(Bytes size) {
    fs::path path = directory_ / "base.raw";
    std::ofstream(path) << "base";
    fs::resize_file(path, size.count());
    return path;
  }

  nlohmann::json Describe(const PreparedDisk& disk) {
    return nlohmann::json::parse(
        RunCommand({"qemu-img", "info", "--output=json", disk.path.string()}, std::chrono::seconds(10)).out);
  }

  PreparedDisk Prepare(const Disk& disk) { return PrepareDisk(disk, directory_ / "vm"); }

  TestDirectory directory_;
};

TEST_F(DiskImageTest, ANewDiskIsSparseAndHasItsSize) {
  PreparedDisk disk = Prepare({.id = "data", .size = 64_MiB});
  EXPECT_EQ(fs::file_size(disk.path), (64_MiB).count());
  struct stat status{};
  ASSERT_EQ(stat(disk.path.c_str(), &status), 0);
  EXPECT_LT(status.st_blocks, 64);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(DiskImageTest, ACloneIsPrivateAndLeavesItsImageAlone) {
  fs::path base = Image(4_MiB);
  auto before = fs::last_write_time(base);
  PreparedDisk disk = Prepare({.id = "root", .path = base.string()});
  EXPECT_NE(disk.path, base);
  EXPECT_EQ(disk.path.parent_path(), directory_ / "vm");
  EXPECT_EQ(Describe(disk)["virtual-size"], (4_MiB).count());
  EXPECT_EQ(fs::last_write_time(base), before);
}

TEST_F(DiskImageTest, ACopyOnAnotherFileSystemHasTheSameBytesAndHoles) {
  SmallFileSystem other;
  if (!other.mounted()) GTEST_SKIP() << SmallFileSystem::kWhyNot;
  fs::path base = Image(64_MiB);
  std::fstream file(base, std::ios::in | std::ios::out);
  file.seekp((32_MiB).count());
  file << "middle";
  file.close();
  CopyDiskFile(base, other.path() / "copy");
  EXPECT_EQ(RunCommand({"cmp", base.string(), (other.path() / "copy").string()}, std::chrono::seconds(10)).out, "");
  other.Fill();
  try {
    CopyDiskFile(base, other.path() / "another");
    FAIL() << "there is no room";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("No space left on device"));
  }
}

TEST_F(DiskImageTest, ACloneCanBeLargerThanItsImage) {
  PreparedDisk disk = Prepare({.id = "root", .path = Image(4_MiB).string(), .size = 16_MiB});
  EXPECT_EQ(Describe(disk)["virtual-size"], (16_MiB).count());
  EXPECT_EQ(fs::file_size(directory_ / "base.raw"), (4_MiB).count());
}

TEST_F(DiskImageTest, ACloneOfAQcow2ImageWorksToo) {
  fs::path base = directory_ / "base.qcow2";
  ASSERT_TRUE(RunCommand({"qemu-img", "create", "-q", "-f", "qcow2", base.string(), "8M"}, std::chrono::seconds(10))
                  .status.ok());
  PreparedDisk disk = Prepare({.id = "root", .path = base.string(), .format = DiskFormat::kQcow2});
  EXPECT_EQ(disk.format, DiskFormat::kQcow2);
  EXPECT_EQ(Describe(disk)["virtual-size"], (8_MiB).count());
}

TEST_F(DiskImageTest, WithoutCloneTheImageItselfIsUsedAndGrown) {
  fs::path base = Image(4_MiB);
  PreparedDisk disk = Prepare({.id = "data", .path = base.string(), .size = 8_MiB, .clone = false});
  EXPECT_EQ(disk.path, base);
  EXPECT_EQ(fs::file_size(base), (8_MiB).count());
}

TEST_F(DiskImageTest, AReadOnlyDiskNeedsNoClone) {
  fs::path base = Image(4_MiB);
  PreparedDisk disk = Prepare({.id = "iso", .path = base.string(), .readonly = true});
  EXPECT_EQ(disk.path, base);
  EXPECT_TRUE(disk.readonly);
}

TEST_F(DiskImageTest, ShrinkingIsRefusedWithBothSizes) {
  try {
    Prepare({.id = "root", .path = Image(8_MiB).string(), .size = 4_MiB});
    FAIL() << "data would be lost";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("disk 'root'"), HasSubstr("4MiB"), HasSubstr("8MiB")));
  }
}

TEST_F(DiskImageTest, AMissingImageIsNamed) {
  try {
    Prepare({.id = "root", .path = "/nowhere/disk.raw"});
    FAIL() << "there is no such file";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("disk 'root'"), HasSubstr("/nowhere/disk.raw")));
  }
}

TEST_F(DiskImageTest, TwoDisksOfOneIdClash) {
  Prepare({.id = "data", .size = 1_MiB});
  EXPECT_THROW(Prepare({.id = "data", .size = 1_MiB}), HostLacks);
}

TEST_F(DiskImageTest, WhatIsDiscardedFreesItsIdAndAnImageOfTheUsersStays) {
  DiscardDisk(Prepare({.id = "data", .size = 4_MiB}), directory_ / "vm");
  PreparedDisk again = Prepare({.id = "data", .size = 4_MiB});
  EXPECT_TRUE(fs::exists(again.path));
  fs::path base = Image(4_MiB);
  DiscardDisk(Prepare({.id = "own", .path = base.string(), .clone = false}), directory_ / "vm");
  EXPECT_TRUE(fs::exists(base));
}

TEST_F(DiskImageTest, AQcow2ImageThatIsNoneIsTold) {
  fs::path text = directory_ / "text";
  std::ofstream(text) << "no qcow2 at all";
  try {
    Prepare({.id = "root", .path = text.string(), .format = DiskFormat::kQcow2});
    FAIL() << "a text file was taken for a qcow2 image";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("disk 'root'"), HasSubstr("is no qcow2 image")));
  }
}

TEST_F(DiskImageTest, ASeedIsAnIsoImageWithTheLabelAndFilesOfNoCloud) {
  fs::path iso = directory_ / "seed.iso";
  WriteSeedIso({.user_data = "#cloud-config\nhostname: kv\n", .network_config = "version: 2\n"}, "kv", iso);
  std::ifstream file(iso, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  ASSERT_GT(content.size(), 0x9000U);
  EXPECT_EQ(content.substr(0x8001, 5), "CD001");
  EXPECT_EQ(content.substr(0x8028, 7), "CIDATA ");
  for (const char* text : {"#cloud-config\nhostname: kv\n", "instance-id: kv\nlocal-hostname: kv\n", "version: 2\n",
                           "user-data", "network-config"}) {
    EXPECT_THAT(content, HasSubstr(text));
  }
}

TEST_F(DiskImageTest, ASeedThatCannotBeWrittenNamesItsPath) {
  try {
    WriteSeedIso({.user_data = "x"}, "kv", "/nowhere/seed.iso");
    FAIL() << "there is no such directory";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nowhere/seed.iso"));
  }
}

}  // namespace
}  // namespace mayfly::internal
