// Makes the files behind a VM's disks.
//
//   PreparedDisk root = PrepareDisk(spec.disks[0], sandbox.directory());   // an overlay, a copy, a new file, or the
//   original
//
// A disk with `clone` is a private copy-on-write clone of its image: shared blocks of the file system where it has
// reflinks (XFS, btrfs), else a qcow2 overlay (qcow2.h). The image itself is never written to.
//
// Thread-safe.
#pragma once

#include <mayfly/spec.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace mayfly::internal {

// A disk as a VMM opens it.
struct PreparedDisk {
  Disk disk{};                   // as the spec has it
  std::filesystem::path path{};  // what the VMM opens
  DiskFormat format = DiskFormat::kRaw;
  bool readonly = false;
};

// Makes what `disk` needs in `directory`. Throws BadSpec (no such image, or it is larger than the size asked for) and
// HostLacks (no space; no qemu-img for one that shall grow) naming the disk.
PreparedDisk PrepareDisk(const Disk& disk, const std::filesystem::path& directory);

// Removes what PrepareDisk has made in `directory`; an image of the user's is left alone.
void DiscardDisk(const PreparedDisk& disk, const std::filesystem::path& directory);

// Grows a disk's file, or changes nothing when it has that size. Throws BadSpec when it would shrink, HostLacks.
void GrowDiskFile(const std::string& id, const std::filesystem::path& path, DiskFormat format, Bytes size);

// A copy of a file that keeps its holes and shares its blocks where the file system can. `to` must not exist. Throws
// HostLacks.
void CopyDiskFile(const std::filesystem::path& from, const std::filesystem::path& to);

// Puts into a qcow2 file what it has of its backing images, so that it needs them no more. Throws HostLacks.
void MakeDiskFileWhole(const std::string& id, const std::filesystem::path& path);

// The qemu-img to use: $MAYFLY_QEMU_IMG, else the one on PATH. Throws HostLacks when there is none.
std::string QemuImgProgram();

// True when files in this directory can share blocks (FICLONE). Tries it.
bool HasReflink(const std::filesystem::path& directory);

}  // namespace mayfly::internal
