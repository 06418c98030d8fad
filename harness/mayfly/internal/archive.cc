#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <mayfly/bytes.h>
#include <mayfly/errors.h>
#include <mayfly/internal/archive.h>
#include <sys/stat.h>

#include <cerrno>
#include <exception>
#include <memory>
#include <vector>

namespace mayfly::internal {
namespace {

// Of one archive, in bytes and in entries: more is damage or an attack.
constexpr uint64_t kLargestFile = uint64_t{8} << 30;
constexpr size_t kMostEntries = 1'000'000;
constexpr size_t kChunk = 1 << 18;

[[noreturn]] void Refuse(std::string_view origin, std::string_view why) {
  throw BadSpec({.summary = fmt::format("{}: {}", origin, why), .notes = {}, .next_step = {}});
}

// libarchive's reader of one archive.
class Reader : public FileContent {
 public:
  enum class Format { kTrees, kAr, kRaw };

  Reader(std::string origin, Format format) : origin_(std::move(origin)) {
    archive_read_support_filter_all(archive_.get());
    if (format == Format::kAr) archive_read_support_format_ar(archive_.get());
    if (format == Format::kRaw) archive_read_support_format_raw(archive_.get());
    if (format != Format::kTrees) return;
    archive_read_support_format_tar(archive_.get());
    archive_read_support_format_cpio(archive_.get());
    archive_read_support_format_empty(archive_.get());
  }

  void OpenFile(const std::filesystem::path& file) {
    Check(archive_read_open_filename(archive_.get(), file.c_str(), kChunk));
  }
  void OpenMemory(std::string_view bytes) {
    Check(archive_read_open_memory(archive_.get(), bytes.data(), bytes.size()));
  }
  // Reads an archive that lies in a file of another one.
  void OpenContent(FileContent& content) {
    outer_ = &content;
    buffer_.resize(kChunk);
    Check(archive_read_open(archive_.get(), this, nullptr, &ReadOuter, nullptr));
  }

  // The next entry, or nothing at the end.
  archive_entry* Next() {
    archive_entry* entry = nullptr;
    int result = archive_read_next_header(archive_.get(), &entry);
    if (result == ARCHIVE_EOF) return nullptr;
    Check(result);
    if (++entries_ > kMostEntries) Refuse(origin_, fmt::format("has more than {} entries", kMostEntries));
    return entry;
  }

  size_t Read(std::span<char> buffer) override {
    la_ssize_t count = archive_read_data(archive_.get(), buffer.data(), buffer.size());
    if (count < 0) Check(static_cast<int>(count));
    return static_cast<size_t>(count);
  }

  bool IsCompressed() const { return archive_filter_code(archive_.get(), 0) != ARCHIVE_FILTER_NONE; }

 private:
  struct Free {
    void operator()(archive* reader) const { archive_read_free(reader); }
  };

  void Check(int result) const {
    if (failure_ != nullptr) std::rethrow_exception(failure_);
    if (result == ARCHIVE_OK || result == ARCHIVE_WARN) return;
    const char* why = archive_error_string(archive_.get());
    Refuse(origin_, fmt::format("is damaged: {}", why == nullptr ? "cannot be read" : why));
  }

  static la_ssize_t ReadOuter(archive* inner, void* self, const void** data) {
    auto* reader = static_cast<Reader*>(self);
    try {
      *data = reader->buffer_.data();
      return static_cast<la_ssize_t>(reader->outer_->Read(reader->buffer_));
    } catch (...) {
      // No exception may pass through libarchive's C.
      reader->failure_ = std::current_exception();
      archive_set_error(inner, EIO, "cannot be read");
      return ARCHIVE_FATAL;
    }
  }

  std::unique_ptr<archive, Free> archive_{archive_read_new()};
  std::string origin_;
  FileContent* outer_ = nullptr;
  std::vector<char> buffer_;
  std::exception_ptr failure_;
  size_t entries_ = 0;
};

FileKind KindOf(archive_entry* entry, const std::string& origin) {
  if (archive_entry_hardlink(entry) != nullptr) return FileKind::kHardLink;
  switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
      return FileKind::kFile;
    case AE_IFDIR:
      return FileKind::kDirectory;
    case AE_IFLNK:
      return FileKind::kLink;
    case AE_IFCHR:
      return FileKind::kCharacterDevice;
    case AE_IFBLK:
      return FileKind::kBlockDevice;
    case AE_IFIFO:
      return FileKind::kPipe;
    default:
      Refuse(origin, fmt::format("has an entry of an unknown kind, {}", archive_entry_pathname(entry)));
  }
}

void ReadAttributes(archive_entry* from, FileEntry& to) {
  archive_entry_xattr_reset(from);
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  while (archive_entry_xattr_next(from, &name, &value, &size) == ARCHIVE_OK) {
    to.attributes[name] = std::string(static_cast<const char*>(value), size);
  }
}

FileEntry Translate(archive_entry* from, const std::string& origin) {
  const char* path = archive_entry_pathname(from);
  if (path == nullptr) Refuse(origin, "has an entry without a name");
  FileEntry to{.kind = KindOf(from, origin),
               .mode = archive_entry_perm(from) & 07777,
               .uid = static_cast<uint32_t>(archive_entry_uid(from)),
               .gid = static_cast<uint32_t>(archive_entry_gid(from)),
               .modified = archive_entry_mtime(from),
               .size = static_cast<uint64_t>(archive_entry_size(from)),
               .device_major = static_cast<uint32_t>(archive_entry_rdevmajor(from)),
               .device_minor = static_cast<uint32_t>(archive_entry_rdevminor(from))};
  // The archive's own root, "./", stays nameless.
  std::string_view rest = path;
  if (rest.find_first_not_of("./") != std::string_view::npos || rest.find("..") != std::string_view::npos) {
    to.path = CleanPath(path, origin);
  }
  if (to.kind == FileKind::kHardLink) to.target = CleanPath(archive_entry_hardlink(from), origin);
  if (to.kind == FileKind::kLink && archive_entry_symlink(from) != nullptr) to.target = archive_entry_symlink(from);
  if (to.kind == FileKind::kFile && to.size > kLargestFile)
    Refuse(origin, "has a file of " + ForPeople(Bytes(to.size)));
  ReadAttributes(from, to);
  return to;
}

void VisitAll(Reader& reader, const std::string& origin, const EntryVisitor& visit) {
  while (archive_entry* entry = reader.Next()) visit(Translate(entry, origin), reader);
}

}  // namespace

std::string ReadAll(FileContent& content, std::string_view origin, uint64_t limit) {
  std::string bytes;
  size_t filled = 0;
  while (true) {
    if (filled == bytes.size()) bytes.resize(std::max(kChunk, bytes.size() * 2));
    size_t count = content.Read(std::span(bytes).subspan(filled));
    if (count == 0) break;
    filled += count;
    if (filled > limit) Refuse(origin, fmt::format("is larger than {}", ToString(Bytes(limit))));
  }
  bytes.resize(filled);
  return bytes;
}

void ReadArchive(const std::filesystem::path& archive, const EntryVisitor& visit) {
  Reader reader(archive.native(), Reader::Format::kTrees);
  reader.OpenFile(archive);
  VisitAll(reader, archive.native(), visit);
}

void ReadDebPackage(const std::filesystem::path& package, const EntryVisitor& visit) {
  const std::string& origin = package.native();
  Reader outer(origin, Reader::Format::kAr);
  outer.OpenFile(package);
  while (archive_entry* member = outer.Next()) {
    std::string_view name = archive_entry_pathname(member);
    if (!name.starts_with("data.tar")) continue;
    Reader inner(origin, Reader::Format::kTrees);
    inner.OpenContent(outer);
    return VisitAll(inner, origin, visit);
  }
  Refuse(origin, "is no Debian package: it has no data.tar");
}

std::string Decompress(std::string_view compressed, std::string_view origin, uint64_t limit) {
  Reader reader(std::string(origin), Reader::Format::kRaw);
  reader.OpenMemory(compressed);
  if (reader.Next() == nullptr || !reader.IsCompressed()) {
    std::string start;
    for (unsigned char byte : compressed.substr(0, 4)) start += fmt::format(" {:02x}", byte);
    Refuse(
        origin,
        fmt::format("is compressed in an unknown way (begins with{}); known: gzip, xz, zstd, lz4, bzip2, lzma", start));
  }
  return ReadAll(reader, origin, limit);
}

}  // namespace mayfly::internal
