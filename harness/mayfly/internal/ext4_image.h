// Ext4 file systems in files, made without root and without a mount.
//
//   Ext4Writer disk("root.img", {.size = 512_MiB, .identity = hash});
//   disk.Add(entry, content);          // any owner, mode, device, extended attribute
//   disk.Finish();
//
// mke2fs makes the empty file system, libext2fs fills it in process: its own way to copy a directory in (-d) takes
// owners and change times from the host. The same entries in the same order give the same bytes. The file is sparse.
// Not thread-safe.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/internal/file_tree.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace mayfly::internal {

struct Ext4Options {
  Bytes size{};
  std::string identity{};  // 32 hexadecimal digits: the UUID
  int64_t time = 1;        // when it was made, in seconds since 1970; not 0
};

class Ext4Writer {
 public:
  // Throws HostLacks when there is no mke2fs or the file cannot be written, BadSpec with mke2fs's words when it refuses
  // the size.
  Ext4Writer(const std::filesystem::path& file, const Ext4Options& options);
  ~Ext4Writer();
  Ext4Writer(const Ext4Writer&) = delete;
  Ext4Writer& operator=(const Ext4Writer&) = delete;

  // Parents come before what they hold, the target of a hard link before the link; an empty path is the root directory.
  // Throws BadSpec when the disk is too small or a parent is missing.
  void Add(const FileEntry& entry, FileContent& content);
  void Add(const FileTree& tree);

  // Writes what is left in memory. Without it the file is useless.
  void Finish();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// "mke2fs 1.47.0 (5-Feb-2023)": part of the identity of what they make. Throws HostLacks when there is none.
std::string Ext4Version();

}  // namespace mayfly::internal
