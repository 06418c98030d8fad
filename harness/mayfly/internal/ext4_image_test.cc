#include <mayfly/internal/ext4_image.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <sys/stat.h>

#include <chrono>
#include <string>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using literals::operator""_MiB;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 26;

class Ext4Image : public testing::Test {
 protected:
  void Write(const FileTree& tree, const fs::path& file) {
    Ext4Writer writer(file, {.size = 16_MiB, .identity = "0123456789abcdef0123456789abcdef"});
    writer.Add(tree);
    writer.Finish();
  }
  // What debugfs, a program of its own, says of the disk.
  std::string Ask(const std::string& request) { return RunCommand({"debugfs", "-R", request, disk_}, 30s).out; }
  std::string Check() {
    CommandOutput checked = RunCommand({"e2fsck", "-fn", disk_}, 30s);
    return checked.status.ok() ? "clean" : checked.out;
  }

  TestDirectory directory_;
  fs::path disk_ = directory_ / "disk.img";
};

TEST_F(Ext4Image, HoldsFilesOfAnyOwnerModeAndKind) {
  FileTree tree;
  tree.AddFile("etc/shadow", "root:*\n", 0640);
  tree.AddLink("bin", "usr/bin");
  tree.AddLink("long", std::string(200, 'l'));
  Ext4Writer writer(disk_, {.size = 16_MiB, .identity = "0"});
  writer.Add(tree);
  StringContent none("");
  StringContent big("content");
  writer.Add({.path = "dev", .kind = FileKind::kDirectory, .mode = 0755}, none);
  writer.Add(
      {.path = "dev/console", .kind = FileKind::kCharacterDevice, .mode = 0600, .device_major = 5, .device_minor = 1},
      none);
  writer.Add({.path = "file",
              .mode = 04755,
              .uid = 100000,
              .gid = 42,
              .modified = 1234567890,
              .attributes = {{"user.note", "hello"}}},
             big);
  writer.Add({.path = "other", .kind = FileKind::kHardLink, .target = "file"}, none);
  writer.Finish();

  EXPECT_EQ(Check(), "clean");
  EXPECT_THAT(Ask("stat /file"), AllOf(HasSubstr("Mode:  04755"), HasSubstr("User: 100000"), HasSubstr("Group:    42"),
                                       HasSubstr("Links: 2"), HasSubstr("user.note"), HasSubstr("mtime: 0x499602d2")));
  EXPECT_THAT(Ask("cat /other"), HasSubstr("content"));
  EXPECT_THAT(Ask("stat /dev/console"), AllOf(HasSubstr("Type: character special"), HasSubstr("05:01")));
  EXPECT_THAT(Ask("stat /bin"), HasSubstr("Fast link dest: \"usr/bin\""));
  EXPECT_THAT(Ask("stat /etc/shadow"), AllOf(HasSubstr("Mode:  0640"), HasSubstr("User:     0")));
}

TEST_F(Ext4Image, IsTheSameForTheSameTree) {
  FileTree tree;
  for (int i = 0; i < 300; ++i) tree.AddFile("directory/with-a-long-name-" + std::to_string(i), std::string(5000, 'x'));
  Write(tree, disk_);
  Write(tree, directory_ / "again.img");
  EXPECT_EQ(Check(), "clean");
  EXPECT_EQ(ReadWholeFile(disk_, kLimit), ReadWholeFile(directory_ / "again.img", kLimit));
}

TEST_F(Ext4Image, IsSparse) {
  FileTree tree;
  tree.AddFile("zeros", std::string(4 << 20, '\0'));
  Write(tree, disk_);
  struct stat status{};
  ASSERT_EQ(stat(disk_.c_str(), &status), 0);
  EXPECT_LT(Bytes(static_cast<uint64_t>(status.st_blocks) * 512), 2_MiB);
  EXPECT_THAT(Ask("stat /zeros"), HasSubstr("Size: 4194304"));
}

TEST_F(Ext4Image, ThatIsTooSmallNamesTheFile) {
  FileTree tree;
  tree.AddFile("a", "small");
  tree.AddFile("b", std::string(20 << 20, 'x'));
  try {
    Write(tree, disk_);
    FAIL() << "expected BadSpec";
  } catch (const BadSpec& error) {
    EXPECT_EQ(error.text().summary, "a disk of 16MiB is too small for its files; b is the first that does not fit");
  }
}

TEST_F(Ext4Image, FilesWithoutAParentAreRefused) {
  Ext4Writer writer(disk_, {.size = 16_MiB, .identity = "0"});
  StringContent none("");
  EXPECT_THROW(writer.Add({.path = "no/parent"}, none), BadSpec);
  EXPECT_THROW(writer.Add({.path = "link", .kind = FileKind::kHardLink, .target = "missing"}, none), BadSpec);
}

TEST_F(Ext4Image, IsMadeOfADirectoryOfTheHost) {
  fs::create_directories(directory_ / "in/sub");
  WriteWholeFile(directory_ / "in/sub/file", "content", 0600);
  BuildDiskFromDirectory(directory_ / "in", 16_MiB, disk_);
  EXPECT_EQ(Check(), "clean");
  EXPECT_THAT(Ask("stat /sub/file"), AllOf(HasSubstr("Mode:  0600"), HasSubstr("User:     0")));
  EXPECT_THROW(BuildDiskFromDirectory(directory_ / "missing", 16_MiB, disk_), BadSpec);
}

}  // namespace
}  // namespace mayfly::internal
