#include "drivers/vz/kernel_check.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/kernel_image.h>

#include <array>
#include <string>
#include <string_view>

namespace mayfly::vz {
namespace {

using internal::KernelForm;

constexpr uint64_t kLargestKernel = uint64_t{512} << 20;

bool Takes(HostKind host, KernelForm form) {
  switch (host) {
    case HostKind::kAppleSilicon:
      return form == KernelForm::kArm64Image;
    case HostKind::kIntel:
      return form == KernelForm::kBzImage;
    case HostKind::kSimulated:
      return form == KernelForm::kBzImage || form == KernelForm::kPvhElf;
  }
  return false;
}

constexpr std::string_view WantedBy(HostKind host) {
  switch (host) {
    case HostKind::kAppleSilicon:
      return "an uncompressed arm64 Image";
    case HostKind::kIntel:
      return "an x86 bzImage (vmlinuz)";
    case HostKind::kSimulated:
      return "an x86 bzImage (vmlinuz), or a vmlinux built with CONFIG_PVH";
  }
  return "";
}

struct WrongForm {
  size_t at;
  std::string_view magic;
  std::string_view is;
  std::string_view next_step;
};
// What kernels for arm64 come as. The second is a PE file, as an Image with EFI stub is, so it is told by its own mark.
constexpr auto kWrongForms = std::to_array<WrongForm>({
    {0, "\x1f\x8b", "compressed by gzip", "decompress it: gunzip < vmlinuz > Image"},
    {4, "zimg", "an EFI application that holds a compressed kernel (CONFIG_EFI_ZBOOT)",
     "give the Image of the kernel's build (arch/arm64/boot/Image), or take it out with unzboot"},
    {0, "\x28\xb5\x2f\xfd", "compressed by zstd", "decompress it: zstd -d < vmlinuz > Image"},
});

}  // namespace

HostKind OwnHostKind(bool simulated) {
  if (simulated) return HostKind::kSimulated;
#if defined(__aarch64__)
  return HostKind::kAppleSilicon;
#else
  return HostKind::kIntel;
#endif
}

void RequireBootable(const std::filesystem::path& kernel, HostKind host) {
  std::error_code missing;
  if (!std::filesystem::is_regular_file(kernel, missing)) {
    throw BadSpec({.summary = fmt::format("spec: boot.kernel: {}: {}", kernel.string(),
                                          missing ? missing.message() : "is no file")});
  }
  const std::string bytes = internal::ReadWholeFile(kernel, kLargestKernel);
  if (Takes(host, internal::FormOfKernel(bytes))) return;
  ErrorText text{.summary = fmt::format("spec: boot.kernel: {}: Virtualization.framework boots {} here",
                                        kernel.string(), WantedBy(host))};
  for (const WrongForm& form : kWrongForms) {
    if (std::string_view(bytes).substr(std::min(form.at, bytes.size())).starts_with(form.magic)) {
      text.notes.push_back(fmt::format("it is {}", form.is));
      text.next_step = form.next_step;
      break;
    }
  }
  throw BadSpec(std::move(text));
}

}  // namespace mayfly::vz
