// Archives of any format and compression that libarchive knows, and Debian packages, read as a stream.
//
//   ReadArchive("root.tar", [](const FileEntry& entry, FileContent& content) { … });
//
// An archive comes from outside: a damaged one, one that names paths outside of it, or one larger than its limit throws
// BadSpec, which names the archive.
#pragma once

#include <mayfly/internal/file_tree.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace mayfly::internal {

// Called for each entry, in order. What it leaves of `content` is skipped.
using EntryVisitor = std::function<void(const FileEntry& entry, FileContent& content)>;

// tar and cpio, compressed in any way.
void ReadArchive(const std::filesystem::path& archive, const EntryVisitor& visit);

// The files of a binary package (.deb).
void ReadDebPackage(const std::filesystem::path& package, const EntryVisitor& visit);

// The decompressed bytes of gzip, xz, zstd, lz4 (also the kernel's old form), bzip2 or lzma. Throws BadSpec (`origin`
// begins the message) when it is none of them, or when more than `limit` bytes come out.
std::string Decompress(std::string_view compressed, std::string_view origin, uint64_t limit);

// All that is left of a content. Throws BadSpec when it is more than `limit`.
std::string ReadAll(FileContent& content, std::string_view origin, uint64_t limit);

}  // namespace mayfly::internal
