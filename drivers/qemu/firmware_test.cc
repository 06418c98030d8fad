#include "drivers/qemu/firmware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <filesystem>

namespace mayfly::internal {
namespace {

class FirmwareTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(vm_); }
  // A file of the host, with its name as its content.
  std::string File(const std::string& name) {
    WriteWholeFile(directory_ / name, name);
    return (directory_ / name).string();
  }
  static std::string ContentOf(const std::filesystem::path& file) { return ReadWholeFile(file, 1 << 20); }

  TestDirectory directory_;
  std::filesystem::path vm_ = directory_ / "vm";
};

TEST_F(FirmwareTest, IsNoneWhereNoneIsAskedFor) {
  Firmware firmware = PrepareFirmware("", vm_);
  EXPECT_EQ(firmware.code, "");
  EXPECT_EQ(firmware.variables, "");
  EXPECT_TRUE(std::filesystem::is_empty(vm_));
}

TEST_F(FirmwareTest, OfAUserTakesTheVariablesBesideItAndTheVmHasACopyOfItsOwn) {
  std::string code = File("MY_CODE.fd");
  std::string original = File("MY_VARS.fd");
  Firmware firmware = PrepareFirmware(code, vm_);
  EXPECT_EQ(firmware.code, code);
  EXPECT_EQ(firmware.variables.parent_path(), vm_);
  EXPECT_EQ(ContentOf(firmware.variables), "MY_VARS.fd");
  WriteWholeFile(firmware.variables, "what the guest has set");
  EXPECT_EQ(ContentOf(original), "MY_VARS.fd") << "another VM's begin with that";
  EXPECT_EQ(ContentOf(PrepareFirmware(code, vm_).variables), "what the guest has set") << "a boot later";
}

TEST_F(FirmwareTest, WithoutVariablesBesideItHasNone) {
  for (const char* name : {"OTHER_CODE.fd", "firmware.bin"}) {
    EXPECT_EQ(PrepareFirmware(File(name), vm_).variables, "") << name;
  }
  EXPECT_TRUE(std::filesystem::is_empty(vm_));
}

TEST_F(FirmwareTest, OfTheHostIsFoundWithItsVariablesOrSaysHowToInstallIt) {
  try {
    Firmware firmware = PrepareFirmware("uefi", vm_);
    EXPECT_TRUE(std::filesystem::exists(firmware.code)) << firmware.code;
    EXPECT_TRUE(std::filesystem::exists(firmware.variables));
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("OVMF"), testing::HasSubstr("apt-get install ovmf")));
  }
}

}  // namespace
}  // namespace mayfly::internal
