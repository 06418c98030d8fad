#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/ext4_image.h>
#include <mayfly/internal/files.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

// These C headers lack the words for C++.
extern "C" {
#include <et/com_err.h>
#include <ext2fs/ext2fs.h>
}

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kFormatTime = 5min;

// All that a kernel of today uses, and nothing of the host's /etc/mke2fs.conf.
constexpr const char* kFeatures =
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum";

struct KindRow {
  FileKind kind;
  uint16_t mode;
  int directory_type;
};

constexpr std::array kKinds = {KindRow{FileKind::kFile, LINUX_S_IFREG, EXT2_FT_REG_FILE},
                               KindRow{FileKind::kCharacterDevice, LINUX_S_IFCHR, EXT2_FT_CHRDEV},
                               KindRow{FileKind::kBlockDevice, LINUX_S_IFBLK, EXT2_FT_BLKDEV},
                               KindRow{FileKind::kPipe, LINUX_S_IFIFO, EXT2_FT_FIFO}};

// "0123456789abcdef…" as a UUID.
std::string Uuid(const std::string& identity) {
  std::string digits = identity + std::string(32, '0');
  return fmt::format("{}-{}-{}-{}-{}", digits.substr(0, 8), digits.substr(8, 4), digits.substr(12, 4),
                     digits.substr(16, 4), digits.substr(20, 12));
}

void RequireMke2fs() {
  if (FindProgram("mke2fs")) return;
  throw HostLacks({.summary = "mke2fs is not on PATH, which makes ext4 disks",
                   .notes = {},
                   .next_step = "apt-get install e2fsprogs (it lies in /sbin: add that to PATH)"});
}

void Format(const fs::path& file, const Ext4Options& options) {
  RequireMke2fs();
  fs::path log = file.native() + ".log";
  std::string uuid = Uuid(options.identity);
  ChildProcess mke2fs(
      {.argv = {"mke2fs",
                "-q",
                "-F",
                "-t",
                "ext4",
                "-O",
                kFeatures,
                "-b",
                "4096",
                "-I",
                "256",
                "-i",
                "16384",
                "-m",
                "0",
                "-U",
                uuid,
                "-E",
                fmt::format("hash_seed={},root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1,"
                            "assume_storage_prezeroed=1",
                            uuid),
                file.native(),
                fmt::format("{}k", options.size.count() >> 10)},
       .stdout_path = log,
       .stderr_path = log,
       .environment = {
           {"MKE2FS_CONFIG", "/dev/null"}, {"E2FSPROGS_FAKE_TIME", std::to_string(options.time)}, {"LC_ALL", "C"}}});
  ExitStatus status = mke2fs.Wait(Deadline::After(kFormatTime));
  std::string words = ReadWholeFile(log, 1 << 20);
  fs::remove(log);
  if (status.ok()) return;
  throw BadSpec({.summary = fmt::format("mke2fs cannot make an ext4 disk of {} ({})", mayfly::ToString(options.size),
                                        status.ToString()),
                 .notes = {words},
                 .next_step = {}});
}

bool IsZero(std::span<const char> block) {
  return std::all_of(block.begin(), block.end(), [](char byte) { return byte == 0; });
}

}  // namespace

class Ext4Writer::Impl {
 public:
  Impl(fs::path file, const Ext4Options& options) : file_(std::move(file)), size_(options.size) {
    UniqueFd created = OpenToWrite(file_);
    if (ftruncate(created.get(), static_cast<off_t>(size_.count())) != 0) ThrowFileError("write", file_, errno);
    Format(file_, options);
    Check(ext2fs_open(file_.c_str(), EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs_), "open", "/");
    fs_->now = options.time;
    Check(ext2fs_read_bitmaps(fs_), "open", "/");
    inodes_[""] = EXT2_ROOT_INO;
  }
  ~Impl() {
    if (fs_ != nullptr) ext2fs_free(fs_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Add(const FileEntry& entry, FileContent& content) {
    switch (entry.kind) {
      case FileKind::kDirectory:
        return SetAttributes(MakeDirectory(entry), entry);
      case FileKind::kLink:
        return SetAttributes(MakeLink(entry), entry);
      case FileKind::kHardLink:
        return MakeHardLink(entry);
      default:
        return SetAttributes(MakeFile(entry, content), entry);
    }
  }

  void Finish() { Check(ext2fs_close_free(&fs_), "write", "/"); }

 private:
  struct Place {
    ext2_ino_t parent;
    std::string name;
  };

  void Check(errcode_t error, std::string_view what, const std::string& path) const {
    if (error == 0) return;
    if (error == EXT2_ET_BLOCK_ALLOC_FAIL || error == EXT2_ET_INODE_ALLOC_FAIL) {
      throw BadSpec(
          {.summary = fmt::format("a disk of {} is too small for its files; {} is the first that does not fit",
                                  mayfly::ToString(size_), path),
           .notes = {},
           .next_step = "make the disk larger (root_disk.size of a recipe)"});
    }
    // Errors of the system are their errno.
    constexpr errcode_t kLargestErrno = 4096;
    if (error < kLargestErrno) ThrowFileError("write", file_, static_cast<int>(error));
    throw HostLacks({.summary = fmt::format("cannot {} {} in {}: {}", what, path, file_.native(), error_message(error)),
                     .notes = {},
                     .next_step = {}});
  }

  Place Locate(const std::string& path) const {
    size_t slash = path.rfind('/');
    std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    auto found = inodes_.find(parent);
    if (found == inodes_.end()) {
      throw BadSpec(
          {.summary = fmt::format("disk: {} lies in no directory of it", path), .notes = {}, .next_step = {}});
    }
    return {.parent = found->second, .name = slash == std::string::npos ? path : path.substr(slash + 1)};
  }

  // Runs `add`, which adds a name to a directory, again when the directory had to grow.
  template <class Function>
  void AddName(const Place& place, const std::string& path, const Function& add) {
    errcode_t error = add();
    if (error == EXT2_ET_DIR_NO_SPACE) {
      Check(ext2fs_expand_dir(fs_, place.parent), "grow the directory of", path);
      error = add();
    }
    Check(error, "add", path);
  }

  ext2_ino_t Find(const Place& place) const {
    ext2_ino_t inode = 0;
    ext2fs_lookup(fs_, place.parent, place.name.data(), static_cast<int>(place.name.size()), nullptr, &inode);
    return inode;
  }

  ext2_ino_t MakeDirectory(const FileEntry& entry) {
    if (entry.path.empty()) return EXT2_ROOT_INO;
    Place place = Locate(entry.path);
    ext2_ino_t inode = Find(place);  // lost+found is there
    if (inode == 0) {
      AddName(place, entry.path, [&] { return ext2fs_mkdir(fs_, place.parent, 0, place.name.c_str()); });
      inode = Find(place);
    }
    inodes_[entry.path] = inode;
    return inode;
  }

  ext2_ino_t MakeLink(const FileEntry& entry) {
    Place place = Locate(entry.path);
    AddName(place, entry.path,
            [&] { return ext2fs_symlink(fs_, place.parent, 0, place.name.c_str(), entry.target.c_str()); });
    return Find(place);
  }

  void MakeHardLink(const FileEntry& entry) {
    ext2_ino_t inode = Find(Locate(entry.target));
    if (inode == 0) {
      throw BadSpec({.summary = fmt::format("disk: {} is a hard link to {}, which does not come before it", entry.path,
                                            entry.target),
                     .notes = {},
                     .next_step = {}});
    }
    Place place = Locate(entry.path);
    AddName(place, entry.path,
            [&] { return ext2fs_link(fs_, place.parent, place.name.c_str(), inode, EXT2_FT_REG_FILE); });
    ext2_inode record{};
    Check(ext2fs_read_inode(fs_, inode, &record), "read", entry.target);
    ++record.i_links_count;
    Check(ext2fs_write_inode(fs_, inode, &record), "write", entry.target);
  }

  ext2_ino_t MakeFile(const FileEntry& entry, FileContent& content) {
    const KindRow& row =
        *std::find_if(kKinds.begin(), kKinds.end(), [&](const KindRow& each) { return each.kind == entry.kind; });
    Place place = Locate(entry.path);
    ext2_ino_t inode = 0;
    Check(ext2fs_new_inode(fs_, place.parent, row.mode, nullptr, &inode), "add", entry.path);
    AddName(place, entry.path,
            [&] { return ext2fs_link(fs_, place.parent, place.name.c_str(), inode, row.directory_type); });
    ext2fs_inode_alloc_stats2(fs_, inode, +1, 0);
    ext2_inode record{};
    record.i_mode = row.mode;
    record.i_links_count = 1;
    if (entry.kind == FileKind::kFile) {
      record.i_flags = EXT4_EXTENTS_FL;
      ext2_extent_handle_t extents = nullptr;
      Check(ext2fs_extent_open2(fs_, inode, &record, &extents), "add", entry.path);
      ext2fs_extent_free(extents);
    } else if (entry.kind != FileKind::kPipe) {
      // The kernel's form of large device numbers.
      record.i_block[1] =
          (entry.device_minor & 0xff) | (entry.device_major << 8) | ((entry.device_minor & ~0xffU) << 12);
    }
    Check(ext2fs_write_new_inode(fs_, inode, &record), "add", entry.path);
    if (entry.kind == FileKind::kFile) WriteContent(inode, entry, content);
    return inode;
  }

  void WriteContent(ext2_ino_t inode, const FileEntry& entry, FileContent& content) {
    ext2_file_t file = nullptr;
    Check(ext2fs_file_open(fs_, inode, EXT2_FILE_WRITE, &file), "write", entry.path);
    std::vector<char> block(1 << 16);
    uint64_t size = 0;
    errcode_t error = 0;
    while (error == 0) {
      size_t filled = 0;
      while (size_t count = content.Read(std::span(block).subspan(filled))) filled += count;
      if (filled == 0) break;
      if (!IsZero(std::span(block).first(filled))) {
        error = ext2fs_file_llseek(file, size, EXT2_SEEK_SET, nullptr);
        unsigned int written = 0;
        if (error == 0) error = ext2fs_file_write(file, block.data(), static_cast<unsigned int>(filled), &written);
      }
      size += filled;
    }
    if (error == 0) error = ext2fs_file_set_size2(file, static_cast<ext2_off64_t>(size));
    errcode_t closing = ext2fs_file_close(file);
    Check(error != 0 ? error : closing, "write", entry.path);
  }

  void SetAttributes(ext2_ino_t inode, const FileEntry& entry) {
    ext2_inode record{};
    Check(ext2fs_read_inode(fs_, inode, &record), "read", entry.path);
    record.i_mode = static_cast<uint16_t>((record.i_mode & LINUX_S_IFMT) | entry.mode);
    record.i_uid = static_cast<uint16_t>(entry.uid);
    record.i_gid = static_cast<uint16_t>(entry.gid);
    ext2fs_set_i_uid_high(record, static_cast<uint16_t>(entry.uid >> 16));
    ext2fs_set_i_gid_high(record, static_cast<uint16_t>(entry.gid >> 16));
    record.i_atime = record.i_mtime = record.i_ctime = static_cast<uint32_t>(entry.modified);
    Check(ext2fs_write_inode(fs_, inode, &record), "write", entry.path);
    if (entry.attributes.empty()) return;
    ext2_xattr_handle* attributes = nullptr;
    Check(ext2fs_xattrs_open(fs_, inode, &attributes), "write the attributes of", entry.path);
    errcode_t error = 0;
    for (const auto& [name, value] : entry.attributes) {
      if (error == 0) error = ext2fs_xattr_set(attributes, name.c_str(), value.data(), value.size());
    }
    ext2fs_xattrs_close(&attributes);
    Check(error, "write the attributes of", entry.path);
  }

  fs::path file_;
  Bytes size_;
  ext2_filsys fs_ = nullptr;
  std::map<std::string, ext2_ino_t> inodes_;  // of directories, by path
};

Ext4Writer::Ext4Writer(const fs::path& file, const Ext4Options& options)
    : impl_(std::make_unique<Impl>(file, options)) {}
Ext4Writer::~Ext4Writer() = default;

void Ext4Writer::Add(const FileEntry& entry, FileContent& content) { impl_->Add(entry, content); }

void Ext4Writer::Add(const FileTree& tree) {
  for (const auto& [path, node] : tree.nodes()) {
    std::unique_ptr<FileContent> content = OpenContent(node);
    impl_->Add(node.entry, *content);
  }
}

void Ext4Writer::Finish() { impl_->Finish(); }

std::string Ext4Version() {
  RequireMke2fs();
  std::string printed = RunCommand({"mke2fs", "-V"}, kFormatTime).out;
  return printed.substr(0, printed.find('\n'));
}

}  // namespace mayfly::internal
