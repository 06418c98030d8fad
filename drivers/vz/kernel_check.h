// Whether a kernel can be booted by the framework, told before it is tried: the framework itself says no more than that
// the machine failed to start.
#pragma once

#include <filesystem>

namespace mayfly::vz {

enum class HostKind {
  kAppleSilicon,  // an uncompressed Image
  kIntel,         // a bzImage
  kSimulated,     // what QEMU boots: a bzImage, or a vmlinux with a PVH entry
};

// The host that this was compiled for.
HostKind OwnHostKind(bool simulated);

// Throws BadSpec, with the way to get the right form, for a kernel of another.
void RequireBootable(const std::filesystem::path& kernel, HostKind host);

}  // namespace mayfly::vz
