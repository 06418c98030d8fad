// Linux kernels as files: which forms can be booted directly, and the uncompressed kernel in a compressed one.
//
// A distribution ships bzImage: real-mode code, a decompressor and the compressed kernel. Decompressing it in an
// emulated guest takes a third of a second, so images carry the ELF file that comes out, which starts at its PVH entry.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace mayfly::internal {

enum class KernelForm {
  kUnknown,
  kBzImage,     // x86
  kPvhElf,      // x86, uncompressed, with the note that names its 32-bit entry
  kArm64Image,  // arm64, uncompressed
};

KernelForm FormOfKernel(std::string_view bytes);

// The uncompressed kernel of a bzImage that can be booted by its PVH entry. Throws BadSpec (`origin` begins the
// message) when the file is damaged, compressed in an unknown way, or its kernel was built without CONFIG_PVH.
std::string ExtractKernel(std::string_view bz_image, std::string_view origin);

}  // namespace mayfly::internal
