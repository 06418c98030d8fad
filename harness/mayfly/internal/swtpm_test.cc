#include <mayfly/internal/swtpm.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <filesystem>

namespace mayfly::internal {
namespace {

TEST(SwtpmCommand, ServesOneConnectionOnTheDescriptorAndKeepsItsStateForThisUser) {
  EXPECT_THAT(SwtpmCommand("/bin/swtpm", "/vm/tpm"),
              testing::ElementsAre("/bin/swtpm", "socket", "--tpm2", "--tpmstate", "dir=/vm/tpm,mode=0600", "--ctrl",
                                   "type=unixio,fd=3", "--terminate"));
}

TEST(MakeTpmState, OfANewTpmIsAnEmptyDirectory) {
  TestDirectory directory;
  MakeTpmState({}, directory / "tpm");
  EXPECT_TRUE(std::filesystem::is_empty(directory / "tpm"));
}

TEST(MakeTpmState, BeginsWithACopySoThatTheOriginalNeverChanges) {
  TestDirectory directory;
  std::filesystem::create_directories(directory / "original" / "not-a-file");
  WriteWholeFile(directory / "original" / "tpm2-00.permall", "keys");
  MakeTpmState({.state = (directory / "original").string()}, directory / "tpm");
  EXPECT_EQ(ReadWholeFile(directory / "tpm" / "tpm2-00.permall", 100), "keys");
  EXPECT_FALSE(std::filesystem::exists(directory / "tpm" / "not-a-file"));
  WriteWholeFile(directory / "tpm" / "tpm2-00.permall", "other keys");
  EXPECT_EQ(ReadWholeFile(directory / "original" / "tpm2-00.permall", 100), "keys");
}

}  // namespace
}  // namespace mayfly::internal
