#include <mayfly/internal/kernel_image.h>

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_archives.h>
#include <mayfly/internal/test_directory.h>

#include <string>
#include <vector>

namespace mayfly::internal {
namespace {

using testing::HasSubstr;

constexpr uint32_t kPvhNote = 18;

using AddFilter = int (*)(archive*);

std::string Compressed(const std::string& bytes, AddFilter add_filter) {
  std::string out(1 << 16, '\0');
  size_t used = 0;
  archive* writer = archive_write_new();
  add_filter(writer);
  archive_write_set_format_raw(writer);
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_write_header(writer, entry);
  archive_write_data(writer, bytes.data(), bytes.size());
  archive_entry_free(entry);
  archive_write_free(writer);
  return out.substr(0, used);
}

std::string Refusal(const std::string& bz_image) {
  try {
    ExtractKernel(bz_image, "vmlinuz");
    return "no error";
  } catch (const BadSpec& error) {
    return error.text().summary;
  }
}

TEST(KernelImage, FormsAreToldApart) {
  EXPECT_EQ(FormOfKernel(MakeKernelElf(kPvhNote)), KernelForm::kPvhElf);
  EXPECT_EQ(FormOfKernel(MakeKernelElf(kPvhNote + 1)), KernelForm::kUnknown);
  EXPECT_EQ(FormOfKernel(MakeBzImage("x")), KernelForm::kBzImage);
  EXPECT_EQ(FormOfKernel(std::string(56, '\0') + "ARM\x64"), KernelForm::kArm64Image);
  EXPECT_EQ(FormOfKernel(""), KernelForm::kUnknown);
}

class KernelCompression : public testing::TestWithParam<AddFilter> {};

TEST_P(KernelCompression, IsUndone) {
  std::string kernel = MakeKernelElf(kPvhNote);
  EXPECT_EQ(ExtractKernel(MakeBzImage(Compressed(kernel, GetParam())), "vmlinuz"), kernel);
}

INSTANTIATE_TEST_SUITE_P(All, KernelCompression,
                         testing::Values(&archive_write_add_filter_gzip, &archive_write_add_filter_xz,
                                         &archive_write_add_filter_zstd, &archive_write_add_filter_lz4));

TEST(KernelImage, FaultsAreNamed) {
  EXPECT_EQ(Refusal("no kernel"), "vmlinuz: is no bzImage");
  EXPECT_THAT(Refusal(MakeBzImage("????????")), HasSubstr("vmlinuz: payload: is compressed in an unknown way"));
  EXPECT_EQ(Refusal(MakeBzImage(Compressed(MakeKernelElf(1), &archive_write_add_filter_gzip))),
            "vmlinuz: holds no kernel with a PVH entry (CONFIG_PVH)");
  std::string image = MakeBzImage(Compressed(MakeKernelElf(kPvhNote), &archive_write_add_filter_gzip));
  EXPECT_EQ(Refusal(image.substr(0, image.size() - 8)), "vmlinuz: is damaged: its payload lies outside of the file");
  image.replace(0x206, 2, std::string("\x07\x02", 2));
  EXPECT_EQ(Refusal(image), "vmlinuz: is a kernel older than 2.6.26");
}

TEST(KernelImage, NotesWithSizesBeyondTheFileDoNoHarm) {
  std::string elf = MakeKernelElf(kPvhNote);
  for (size_t at = 0; at < elf.size(); ++at) {
    std::string broken = elf;
    broken.replace(at, 1, "\xff");
    FormOfKernel(broken);
    FormOfKernel(elf.substr(0, at));
  }
}

TEST(CheckKernel, RefusesWhatCannotBeStarted) {
  TestDirectory directory;
  WriteWholeFile(directory / "good", MakeKernelElf(kPvhNote));
  CheckKernel(directory / "good");
  WriteWholeFile(directory / "bad", MakeKernelElf(1));
  WriteWholeFile(directory / "empty", "");
  EXPECT_THROW(CheckKernel(directory / "bad"), BadSpec);
  EXPECT_THROW(CheckKernel(directory / "empty"), BadSpec);
  EXPECT_THROW(CheckKernel(directory.path()), BadSpec);
  EXPECT_THROW(CheckKernel(directory / "missing"), HostLacks);
}

}  // namespace
}  // namespace mayfly::internal
