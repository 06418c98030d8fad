#include <mayfly/internal/qcow2.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <chrono>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

using mayfly::literals::operator""_MiB;
using mayfly::literals::operator""_TiB;
using std::chrono::seconds;

class Qcow2Test : public testing::Test {
 protected:
  std::string QemuImg(std::vector<std::string> words) {
    words.insert(words.begin(), QemuImgProgram());
    CommandOutput output = RunCommand(words, Scaled(seconds(10)));
    EXPECT_TRUE(output.status.ok()) << output.out;
    return output.out;
  }

  TestDirectory directory_;
  std::filesystem::path base_ = directory_.path() / "base.raw";
  std::filesystem::path overlay_ = directory_.path() / "overlay.qcow2";
};

TEST_F(Qcow2Test, OverlaysAreSoundForQemuImgAndReadAsTheirBackingImage) {
  std::string content(200'000, 'x');
  WriteWholeFile(base_, content);
  CreateQcow2Overlay(overlay_, {.path = base_, .format = DiskFormat::kRaw, .size = Bytes(content.size() / 512 * 512)});
  EXPECT_THAT(QemuImg({"check", overlay_.string()}), testing::HasSubstr("No errors were found"));
  std::filesystem::path copy = directory_.path() / "copy.raw";
  QemuImg({"convert", "-f", "qcow2", "-O", "raw", overlay_.string(), copy.string()});
  EXPECT_EQ(ReadWholeFile(copy, 1 << 20), content.substr(0, content.size() / 512 * 512));
}

TEST_F(Qcow2Test, OverlaysNameFormatAndSizeOfWhatIsUnderThem) {
  WriteWholeFile(base_, std::string(4096, 'x'));
  CreateQcow2Overlay(overlay_, {.path = base_, .format = DiskFormat::kRaw, .size = 3_TiB});
  std::filesystem::path second = directory_.path() / "second.qcow2";
  CreateQcow2Overlay(second, {.path = overlay_, .format = DiskFormat::kQcow2, .size = 3_TiB});
  auto info = nlohmann::json::parse(QemuImg({"info", "--output=json", second.string()}));
  EXPECT_EQ(info.at("virtual-size"), (3_TiB).count());
  EXPECT_EQ(info.at("backing-filename"), overlay_.string());
  EXPECT_EQ(info.at("backing-filename-format"), "qcow2");
  EXPECT_EQ(Qcow2VirtualSize(second), 3_TiB);
  EXPECT_THAT(QemuImg({"check", second.string()}), testing::HasSubstr("No errors were found"));
}

TEST_F(Qcow2Test, AnOverlayNeverReplacesAFile) {
  WriteWholeFile(overlay_, "precious");
  EXPECT_THROW(CreateQcow2Overlay(overlay_, {.path = base_, .size = 1_MiB}), HostLacks);
  EXPECT_EQ(ReadWholeFile(overlay_, 100), "precious");
}

TEST_F(Qcow2Test, AFileThatIsNoImageIsTold) {
  WriteWholeFile(base_, "QFI but no more");
  EXPECT_THROW(Qcow2VirtualSize(base_), BadSpec);
  EXPECT_THROW(CreateQcow2Overlay(overlay_, {.path = std::string(1024, 'a'), .size = 1_MiB}), BadSpec);
}

}  // namespace
}  // namespace mayfly::internal
