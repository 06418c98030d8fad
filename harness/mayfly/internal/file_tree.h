// A file system that is put together in memory, and what stores it.
//
//   FileTree tree;
//   tree.AddFile("bin/busybox", bytes, 0755);          // owned by root; missing parent directories are made, 0755
//   tree.AddLink("bin/sh", "busybox");
//   WriteCpio(tree, "initramfs.cpio");                 // the same tree gives the same bytes
//
// Contents are in memory or stay in a file of the host until they are written. Not thread-safe.
#pragma once

#include <mayfly/internal/unique_fd.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mayfly::internal {

enum class FileKind { kFile, kDirectory, kLink, kHardLink, kCharacterDevice, kBlockDevice, kPipe };

struct FileEntry {
  std::string path{};  // relative, "usr/bin/env"
  FileKind kind = FileKind::kFile;
  uint32_t mode = 0644;  // permission bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t modified = 0;  // seconds since 1970
  uint64_t size = 0;
  std::string target{};       // of a symbolic link; of a hard link: the path of an entry before it
  uint32_t device_major = 0;  // of a device
  uint32_t device_minor = 0;
  std::map<std::string, std::string> attributes{};  // extended ones, "security.capability"
};

// The bytes of a file, read once from the start.
class FileContent {
 public:
  virtual ~FileContent() = default;
  // At least one byte, or 0 at the end.
  virtual size_t Read(std::span<char> buffer) = 0;
};

class StringContent : public FileContent {
 public:
  explicit StringContent(std::string_view bytes) : rest_(bytes) {}
  size_t Read(std::span<char> buffer) override;

 private:
  std::string_view rest_;
};

class HostFileContent : public FileContent {
 public:
  // Throws HostLacks when the file cannot be read.
  explicit HostFileContent(std::filesystem::path file);
  size_t Read(std::span<char> buffer) override;

 private:
  std::filesystem::path file_;
  UniqueFd fd_;
};

// `path` without leading and doubled slashes and ".". Throws BadSpec (`where` begins the message) when nothing is left,
// or when it has "..", which could lead out of the tree.
std::string CleanPath(std::string_view path, std::string_view where);

class FileTree {
 public:
  struct Node {
    FileEntry entry;
    std::string bytes{};             // of a file, unless
    std::filesystem::path source{};  // this file of the host has them
  };

  // Each replaces what has that path already; but what a directory is stays one. Throws BadSpec as CleanPath does.
  void AddDirectory(std::string_view path, uint32_t mode = 0755);
  void AddFile(std::string_view path, std::string bytes, uint32_t mode = 0644);
  void AddHostFile(std::string_view path, const std::filesystem::path& source, uint32_t mode);
  void AddLink(std::string_view path, std::string target);
  // The tree below a directory of the host, with modes, links and times. Everything belongs to root when
  // `owned_by_root`, else to its owners there. Sockets are left out. Throws BadSpec when it is no directory, HostLacks
  // when it cannot be read.
  void AddHostDirectory(const std::filesystem::path& directory, bool owned_by_root);
  // Everything of another tree.
  void Merge(const FileTree& other);

  // Parents before what they hold, by name.
  const std::map<std::string, Node>& nodes() const { return nodes_; }

 private:
  Node& Place(std::string_view path, FileKind kind, uint32_t mode);

  std::map<std::string, Node> nodes_;
};

// The bytes of a file of a tree, wherever they are; the tree outlives it.
std::unique_ptr<FileContent> OpenContent(const FileTree::Node& node);

// Writes the tree as an uncompressed initramfs (cpio, format newc). Throws HostLacks.
void WriteCpio(const FileTree& tree, const std::filesystem::path& out);

}  // namespace mayfly::internal
