// Copy-on-write overlays in QEMU's image format, written in process.
//
//   CreateQcow2Overlay("vm/disk.qcow2", {.path = "base.raw", .format = DiskFormat::kRaw, .size = 10_GiB});
//
// An overlay holds what is written to it; everything else is read from its backing image, which nobody may change
// meanwhile. Making one takes the same fraction of a millisecond for every size of disk, where starting qemu-img takes
// some ten: every fork needs one.
//
// The format: docs/interop/qcow2.txt of QEMU, version 3, clusters of 64 KiB.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/spec.h>

#include <filesystem>

namespace mayfly::internal {

struct BackingImage {
  std::filesystem::path path{};  // absolute; at most 1023 bytes
  DiskFormat format = DiskFormat::kRaw;
  Bytes size{};  // what the overlay's guest sees; may be larger than the image
};

// Makes the file, which must not exist. Throws HostLacks (no space, exists), BadSpec when the format cannot hold it.
void CreateQcow2Overlay(const std::filesystem::path& overlay, const BackingImage& backing);

// The size of the disk in an image. Throws BadSpec when the file is no qcow2 image, HostLacks when it cannot be read.
Bytes Qcow2VirtualSize(const std::filesystem::path& image);

}  // namespace mayfly::internal
