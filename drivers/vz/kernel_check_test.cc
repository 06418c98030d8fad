#include "drivers/vz/kernel_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <string>

namespace mayfly::vz {
namespace {

using testing::HasSubstr;

std::string With(size_t at, std::string_view magic) {
  std::string bytes(4096, '\0');
  return bytes.replace(at, magic.size(), magic);
}

class VzKernelCheck : public testing::Test {
 protected:
  // The words of the refusal; empty when the kernel is taken.
  std::string Refusal(const std::string& bytes, HostKind host) {
    internal::WriteWholeFile(directory_ / "kernel", bytes);
    try {
      RequireBootable(directory_ / "kernel", host);
    } catch (const BadSpec& error) {
      return error.what();
    }
    return "";
  }

  const std::string image_ = With(56, "ARM\x64");
  const std::string bz_image_ = With(0x1fe, "\x55\xaa").replace(0x202, 4, "HdrS");

 private:
  internal::TestDirectory directory_;
};

TEST_F(VzKernelCheck, AppleSiliconTakesAnUncompressedImageAlone) {
  EXPECT_EQ(Refusal(image_, HostKind::kAppleSilicon), "");
  EXPECT_THAT(Refusal(bz_image_, HostKind::kAppleSilicon), HasSubstr("an uncompressed arm64 Image"));
}

TEST_F(VzKernelCheck, ACompressedKernelIsToldByItsFormAndHowToDecompressIt) {
  EXPECT_THAT(Refusal(With(0, "\x1f\x8b"), HostKind::kAppleSilicon),
              AllOf(HasSubstr("it is compressed by gzip"), HasSubstr("gunzip")));
  EXPECT_THAT(Refusal(With(4, "zimg"), HostKind::kAppleSilicon), HasSubstr("CONFIG_EFI_ZBOOT"));
}

TEST_F(VzKernelCheck, AnIntelMacTakesABzImageAlone) {
  EXPECT_EQ(Refusal(bz_image_, HostKind::kIntel), "");
  EXPECT_THAT(Refusal(image_, HostKind::kIntel), HasSubstr("an x86 bzImage"));
}

TEST_F(VzKernelCheck, AFileThatIsNoKernelOrNotThereIsRefused) {
  EXPECT_THAT(Refusal("I am no kernel.\n", HostKind::kSimulated), HasSubstr("boot.kernel"));
  EXPECT_THROW(RequireBootable("/nowhere/kernel", HostKind::kSimulated), BadSpec);
}

}  // namespace
}  // namespace mayfly::vz
