#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/file_tree.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/spec_fault.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace mayfly::internal {
namespace {

struct KindBits {
  FileKind kind;
  uint32_t bits;
};

constexpr KindBits kKindBits[] = {
    {FileKind::kFile, S_IFREG},     {FileKind::kDirectory, S_IFDIR},       {FileKind::kLink, S_IFLNK},
    {FileKind::kHardLink, S_IFREG}, {FileKind::kCharacterDevice, S_IFCHR}, {FileKind::kBlockDevice, S_IFBLK},
    {FileKind::kPipe, S_IFIFO}};

class CpioWriter {
 public:
  explicit CpioWriter(const std::filesystem::path& out) : path_(out), fd_(OpenToWrite(out)) {
    archive_write_set_format_cpio_newc(archive_.get());
    archive_write_set_bytes_in_last_block(archive_.get(), 1);
    Check(archive_write_open_fd(archive_.get(), fd_.get()));
  }

  void Add(const FileTree::Node& node) {
    std::unique_ptr<archive_entry, FreeEntry> entry(archive_entry_new());
    uint64_t size = node.entry.kind == FileKind::kFile ? node.entry.size : 0;
    archive_entry_set_pathname(entry.get(), node.entry.path.c_str());
    archive_entry_set_mode(entry.get(), node.entry.mode | ModeBits(node.entry.kind));
    archive_entry_set_uid(entry.get(), node.entry.uid);
    archive_entry_set_gid(entry.get(), node.entry.gid);
    archive_entry_set_mtime(entry.get(), node.entry.modified, 0);
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(size));
    archive_entry_set_nlink(entry.get(), node.entry.kind == FileKind::kDirectory ? 2 : 1);
    if (node.entry.kind == FileKind::kLink) archive_entry_set_symlink(entry.get(), node.entry.target.c_str());
    archive_entry_set_rdevmajor(entry.get(), node.entry.device_major);
    archive_entry_set_rdevminor(entry.get(), node.entry.device_minor);
    Check(archive_write_header(archive_.get(), entry.get()));
    if (size == 0) return;
    std::unique_ptr<FileContent> content = OpenContent(node);
    std::vector<char> buffer(1 << 18);
    for (uint64_t left = size; left > 0;) {
      size_t count = content->Read(std::span(buffer).first(std::min<uint64_t>(left, buffer.size())));
      if (count == 0) ThrowFileError("read all of", node.source, EIO);
      Write({buffer.data(), count});
      left -= count;
    }
  }

  void Finish() { Check(archive_write_close(archive_.get())); }

 private:
  struct Free {
    void operator()(archive* writer) const { archive_write_free(writer); }
  };
  struct FreeEntry {
    void operator()(archive_entry* entry) const { archive_entry_free(entry); }
  };

  static uint32_t ModeBits(FileKind kind) {
    for (const KindBits& row : kKindBits) {
      if (row.kind == kind) return row.bits;
    }
    return S_IFREG;
  }

  void Write(std::string_view bytes) {
    la_ssize_t count = archive_write_data(archive_.get(), bytes.data(), bytes.size());
    Check(count < 0 ? ARCHIVE_FATAL : ARCHIVE_OK);
  }

  void Check(int result) {
    if (result == ARCHIVE_OK || result == ARCHIVE_WARN) return;
    int error = archive_errno(archive_.get());
    ThrowFileError("write", path_, error > 0 ? error : EIO);
  }

  std::filesystem::path path_;
  UniqueFd fd_;
  std::unique_ptr<archive, Free> archive_{archive_write_new()};
};

}  // namespace

size_t StringContent::Read(std::span<char> buffer) {
  size_t count = std::min(buffer.size(), rest_.size());
  std::memcpy(buffer.data(), rest_.data(), count);
  rest_.remove_prefix(count);
  return count;
}

HostFileContent::HostFileContent(std::filesystem::path file) : file_(std::move(file)), fd_(OpenToRead(file_)) {}

size_t HostFileContent::Read(std::span<char> buffer) { return ReadSome(fd_, buffer, file_); }

std::unique_ptr<FileContent> OpenContent(const FileTree::Node& node) {
  if (node.source.empty()) return std::make_unique<StringContent>(node.bytes);
  return std::make_unique<HostFileContent>(node.source);
}

std::string CleanPath(std::string_view path, std::string_view where) {
  std::string clean;
  for (std::string_view rest = path; !rest.empty();) {
    std::string_view part = rest.substr(0, rest.find('/'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    if (part.empty() || part == ".") continue;
    if (part == ".." || part.find('\0') != std::string_view::npos) {
      throw BadSpec(
          {.summary = fmt::format("{}: path {} is not allowed", where, Quoted(path)), .notes = {}, .next_step = {}});
    }
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  if (clean.empty()) {
    throw BadSpec(
        {.summary = fmt::format("{}: path {} names nothing", where, Quoted(path)), .notes = {}, .next_step = {}});
  }
  return clean;
}

FileTree::Node& FileTree::Place(std::string_view path, FileKind kind, uint32_t mode) {
  std::string clean = CleanPath(path, "file tree");
  for (size_t slash = clean.find('/'); slash != std::string::npos; slash = clean.find('/', slash + 1)) {
    Node& parent = nodes_[clean.substr(0, slash)];
    if (parent.entry.path.empty()) {
      parent.entry = {.path = clean.substr(0, slash), .kind = FileKind::kDirectory, .mode = 0755};
    } else if (parent.entry.kind != FileKind::kDirectory) {
      throw BadSpec(
          {.summary = fmt::format("file tree: {} is no directory, but {} lies in it", parent.entry.path, clean),
           .notes = {},
           .next_step = {}});
    }
  }
  Node& node = nodes_[clean];
  if (node.entry.kind == FileKind::kDirectory && !node.entry.path.empty() && kind != FileKind::kDirectory) {
    throw BadSpec(
        {.summary = fmt::format("file tree: {} is a directory already", clean), .notes = {}, .next_step = {}});
  }
  node = {.entry = {.path = clean, .kind = kind, .mode = mode}};
  return node;
}

void FileTree::AddDirectory(std::string_view path, uint32_t mode) { Place(path, FileKind::kDirectory, mode); }

void FileTree::AddFile(std::string_view path, std::string bytes, uint32_t mode) {
  Node& node = Place(path, FileKind::kFile, mode);
  node.entry.size = bytes.size();
  node.bytes = std::move(bytes);
}

void FileTree::AddHostFile(std::string_view path, const std::filesystem::path& source, uint32_t mode) {
  struct stat status{};
  if (stat(source.c_str(), &status) != 0) ThrowFileError("read", source, errno);
  Node& node = Place(path, FileKind::kFile, mode);
  node.entry.size = static_cast<uint64_t>(status.st_size);
  node.source = source;
}

void FileTree::AddLink(std::string_view path, std::string target) {
  Place(path, FileKind::kLink, 0777).entry.target = std::move(target);
}

void FileTree::AddHostDirectory(const std::filesystem::path& directory, bool owned_by_root) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    throw BadSpec({.summary = fmt::format("{} is no directory", directory.native()), .notes = {}, .next_step = {}});
  }
  std::filesystem::recursive_directory_iterator walk(directory, error);
  for (; !error && walk != std::filesystem::recursive_directory_iterator(); walk.increment(error)) {
    struct stat status{};
    const std::filesystem::path& source = walk->path();
    if (lstat(source.c_str(), &status) != 0) ThrowFileError("read", source, errno);
    if (S_ISSOCK(status.st_mode)) continue;
    const KindBits* row = std::find_if(std::begin(kKindBits), std::end(kKindBits),
                                       [&](const KindBits& bits) { return bits.bits == (status.st_mode & S_IFMT); });
    FileEntry& entry = Place(source.lexically_relative(directory).native(), row->kind, status.st_mode & 07777).entry;
    entry.uid = owned_by_root ? 0 : status.st_uid;
    entry.gid = owned_by_root ? 0 : status.st_gid;
    entry.modified = status.st_mtime;
    entry.device_major = major(status.st_rdev);
    entry.device_minor = minor(status.st_rdev);
    if (row->kind == FileKind::kFile) {
      entry.size = static_cast<uint64_t>(status.st_size);
      nodes_[entry.path].source = source;
    }
    if (row->kind == FileKind::kLink) entry.target = std::filesystem::read_symlink(source).native();
  }
  if (error) ThrowFileError("read", directory, error.value());
}

void FileTree::Merge(const FileTree& other) {
  for (const auto& [path, node] : other.nodes_) Place(path, node.entry.kind, node.entry.mode) = node;
}

void WriteCpio(const FileTree& tree, const std::filesystem::path& out) {
  CpioWriter writer(out);
  for (const auto& [path, node] : tree.nodes()) writer.Add(node);
  writer.Finish();
}

}  // namespace mayfly::internal
