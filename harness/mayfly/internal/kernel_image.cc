#include <elf.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/archive.h>
#include <mayfly/internal/byte_view.h>
#include <mayfly/internal/kernel_image.h>

#include <cstdint>
#include <optional>

namespace mayfly::internal {
namespace {

constexpr uint64_t kLargestKernel = uint64_t{512} << 20;
constexpr uint32_t kPvhEntryNote = 18;  // XEN_ELFNOTE_PHYS32_ENTRY

// The x86 boot protocol (Documentation/x86/boot.rst): offsets in the first sector of a bzImage.
constexpr size_t kSectors = 0x1f1;
constexpr size_t kBootFlag = 0x1fe;
constexpr size_t kMagic = 0x202;
constexpr size_t kVersion = 0x206;
constexpr size_t kPayloadOffset = 0x248;
constexpr size_t kPayloadLength = 0x24c;
constexpr uint16_t kPayloadVersion = 0x208;  // the first protocol that names the payload
constexpr size_t kSector = 512;

[[noreturn]] void Refuse(std::string_view origin, std::string_view why) {
  throw BadSpec({.summary = fmt::format("{}: {}", origin, why), .notes = {}, .next_step = {}});
}

constexpr size_t Aligned(size_t size) { return (size + 3) & ~size_t{3}; }

bool HasPvhNote(std::string_view notes) {
  for (size_t at = 0; auto header = At<Elf64_Nhdr>(notes, at);) {
    auto name = Slice(notes, at + sizeof *header, header->n_namesz);
    if (!name) return false;
    if (header->n_type == kPvhEntryNote && *name == std::string_view("Xen\0", 4)) return true;
    at += sizeof *header + Aligned(header->n_namesz) + Aligned(header->n_descsz);
  }
  return false;
}

bool IsPvhElf(std::string_view bytes) {
  auto header = At<Elf64_Ehdr>(bytes, 0);
  if (!header || std::string_view(reinterpret_cast<char*>(header->e_ident), SELFMAG) != ELFMAG) return false;
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64) return false;
  for (size_t i = 0; i < header->e_phnum; ++i) {
    auto segment = At<Elf64_Phdr>(bytes, header->e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) return false;
    if (segment->p_type != PT_NOTE) continue;
    auto notes = Slice(bytes, segment->p_offset, segment->p_filesz);
    if (notes && HasPvhNote(*notes)) return true;
  }
  return false;
}

bool IsBzImage(std::string_view bytes) {
  return At<uint16_t>(bytes, kBootFlag) == 0xaa55 && Slice(bytes, kMagic, 4) == "HdrS";
}

bool IsArm64Image(std::string_view bytes) { return Slice(bytes, 56, 4) == "ARM\x64"; }

}  // namespace

KernelForm FormOfKernel(std::string_view bytes) {
  if (IsBzImage(bytes)) return KernelForm::kBzImage;
  if (IsPvhElf(bytes)) return KernelForm::kPvhElf;
  if (IsArm64Image(bytes)) return KernelForm::kArm64Image;
  return KernelForm::kUnknown;
}

std::string ExtractKernel(std::string_view bz_image, std::string_view origin) {
  if (!IsBzImage(bz_image)) Refuse(origin, "is no bzImage");
  if (At<uint16_t>(bz_image, kVersion).value_or(0) < kPayloadVersion) Refuse(origin, "is a kernel older than 2.6.26");
  size_t sectors = static_cast<unsigned char>(bz_image[kSectors]);
  if (sectors == 0) sectors = 4;
  auto offset = At<uint32_t>(bz_image, kPayloadOffset);
  auto length = At<uint32_t>(bz_image, kPayloadLength);
  std::optional<std::string_view> payload;
  if (offset && length) payload = Slice(bz_image, (sectors + 1) * kSector + *offset, *length);
  constexpr size_t kSizeAtEnd = 4;  // the kernel's build appends the uncompressed size
  if (!payload || payload->size() <= kSizeAtEnd) Refuse(origin, "is damaged: its payload lies outside of the file");
  payload->remove_suffix(kSizeAtEnd);
  std::string kernel = Decompress(*payload, fmt::format("{}: payload", origin), kLargestKernel);
  if (!IsPvhElf(kernel)) Refuse(origin, "holds no kernel with a PVH entry (CONFIG_PVH)");
  return kernel;
}

}  // namespace mayfly::internal
