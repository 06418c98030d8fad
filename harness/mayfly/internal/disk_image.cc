#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/qcow2.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSpaceHint =
    "free some space, or choose another place for VMs by MAYFLY_RUNTIME_DIR (sizes are sparse: only what is written "
    "counts)";

[[noreturn]] void ThrowErrno(const Disk& disk, const fs::path& path, std::string_view doing, int error) {
  throw HostLacks({.summary = fmt::format("disk '{}': cannot {} {}: {}", disk.id, doing, path.string(),
                                          std::generic_category().message(error)),
                   .next_step = error == ENOSPC ? std::string(kSpaceHint) : std::string()});
}

UniqueFd OpenNew(const Disk& disk, const fs::path& path) {
  UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) ThrowErrno(disk, path, "make", errno);
  return file;
}

PreparedDisk NewDisk(const Disk& disk, const fs::path& directory) {
  fs::path path = directory / fmt::format("disk-{}.raw", disk.id);
  UniqueFd file = OpenNew(disk, path);
  if (ftruncate(file.get(), static_cast<off_t>(disk.size.count())) != 0) ThrowErrno(disk, path, "size", errno);
  return {.disk = disk, .path = path, .format = DiskFormat::kRaw, .readonly = disk.readonly};
}

// False when the file system has no reflinks, or the two files are on different ones.
bool Reflink(const fs::path& from, int to) {
  UniqueFd source(open(from.c_str(), O_RDONLY | O_CLOEXEC));
  return source && ioctl(to, FICLONE, source.get()) == 0;
}

std::string_view FormatName(DiskFormat format) { return format == DiskFormat::kQcow2 ? "qcow2" : "raw"; }

std::string RunQemuImg(const std::string& id, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), QemuImgProgram());
  CommandOutput output = RunCommand(arguments, Scaled(std::chrono::seconds(300)));
  if (output.status.ok()) return output.out;
  bool full = output.out.find(std::generic_category().message(ENOSPC)) != std::string::npos;
  std::string text = output.out.substr(0, output.out.find_last_not_of('\n') + 1);
  throw HostLacks(
      {.summary = fmt::format("disk '{}': qemu-img {} failed ({})", id, arguments[1], output.status.ToString()),
       .notes = {text},
       .next_step = full ? std::string(kSpaceHint) : std::string()});
}

Bytes VirtualSize(const std::string& id, const fs::path& path, DiskFormat format) {
  std::error_code error;
  if (format == DiskFormat::kRaw) return Bytes(fs::file_size(path, error));
  try {
    return Qcow2VirtualSize(path);
  } catch (Error& unreadable) {
    unreadable.AddNote(fmt::format("disk '{}'", id));
    throw;
  }
}

[[noreturn]] void ThrowWouldShrink(const std::string& id, const fs::path& path, Bytes is, Bytes wanted) {
  throw BadSpec({.summary = fmt::format("disk '{}': size: \"{}\" is less than the {} of {}; a disk can only grow", id,
                                        ToString(wanted), ToString(is), path.string())});
}

// Copies the bytes from `begin` to `end` to the same place of another file.
void CopyPiece(const UniqueFd& source, const UniqueFd& target, off_t begin, off_t end, const fs::path& to) {
  bool in_kernel = true;
  off_t written = begin;
  while (begin < end) {
    auto left = static_cast<size_t>(end - begin);
    ssize_t count = in_kernel ? copy_file_range(source.get(), &begin, target.get(), &written, left, 0)
                              : sendfile(target.get(), source.get(), &begin, left);
    if (count > 0) continue;
    // From one file system to another, such as from the disk to the session's runtime directory in memory.
    bool refused = count < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS);
    if (!in_kernel || !refused) ThrowFileError("write", to, count == 0 ? EIO : errno);
    in_kernel = false;
    if (lseek(target.get(), begin, SEEK_SET) != begin) ThrowFileError("write", to, errno);
  }
}

PreparedDisk CloneDisk(const Disk& disk, const fs::path& directory) {
  Bytes is = VirtualSize(disk.id, disk.path, disk.format);
  bool grows = disk.size > Bytes();
  if (grows && is > disk.size) ThrowWouldShrink(disk.id, disk.path, is, disk.size);
  fs::path copy = directory / fmt::format("disk-{}.{}", disk.id, FormatName(disk.format));
  if (Reflink(disk.path, OpenNew(disk, copy).get())) {
    if (grows && disk.size > is) GrowDiskFile(disk.id, copy, disk.format, disk.size);
    return {.disk = disk, .path = copy, .format = disk.format};
  }
  fs::remove(copy);
  fs::path overlay = directory / fmt::format("disk-{}.overlay", disk.id);
  // A raw image that ends in the middle of a sector is read with zeros up to its end.
  constexpr uint64_t kSector = 512;
  Bytes size((std::max(is, disk.size).count() + kSector - 1) / kSector * kSector);
  CreateQcow2Overlay(overlay, {.path = fs::absolute(disk.path), .format = disk.format, .size = size});
  return {.disk = disk, .path = overlay, .format = DiskFormat::kQcow2};
}

}  // namespace

std::string QemuImgProgram() {
  const char* given = std::getenv("MAYFLY_QEMU_IMG");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string name = given != nullptr && *given != '\0' ? given : "qemu-img";
  if (!FindProgram(name)) {
    throw HostLacks(
        {.summary = fmt::format("there is no program '{}', which grows and copies disk images", name),
         .next_step = "install it (Debian: sudo apt-get install qemu-utils), or set MAYFLY_QEMU_IMG to its path"});
  }
  return name;
}

PreparedDisk PrepareDisk(const Disk& disk, const fs::path& directory) {
  if (disk.path.empty()) return NewDisk(disk, directory);
  struct stat status{};
  if (stat(disk.path.c_str(), &status) != 0 || access(disk.path.c_str(), R_OK) != 0) {
    throw BadSpec({.summary = fmt::format("disk '{}': path: \"{}\": {}", disk.id, disk.path,
                                          std::generic_category().message(errno)),
                   .next_step = "give the path of a disk image; for an empty disk leave path out and give size"});
  }
  bool grows = disk.size > Bytes();
  // Nobody writes to a read-only disk: it needs no clone, unless it shall be larger than its image.
  if (disk.clone && !(disk.readonly && !grows)) {
    PreparedDisk clone = CloneDisk(disk, directory);
    clone.readonly = disk.readonly;
    return clone;
  }
  if (grows) GrowDiskFile(disk.id, disk.path, disk.format, disk.size);
  return {.disk = disk, .path = fs::absolute(disk.path), .format = disk.format, .readonly = disk.readonly};
}

void DiscardDisk(const PreparedDisk& disk, const fs::path& directory) {
  std::error_code ignored;
  if (disk.path.parent_path() == directory) fs::remove(disk.path, ignored);
}

void GrowDiskFile(const std::string& id, const fs::path& path, DiskFormat format, Bytes size) {
  Bytes is = VirtualSize(id, path, format);
  if (size < is) ThrowWouldShrink(id, path, is, size);
  if (size == is) return;
  RunQemuImg(id, {"resize", "-q", "-f", std::string(FormatName(format)), path.string(), std::to_string(size.count())});
}

void MakeDiskFileWhole(const std::string& id, const fs::path& path) {
  fs::path whole = path.native() + ".whole";
  RunQemuImg(id, {"convert", "-f", "qcow2", "-O", "qcow2", path.string(), whole.string()});
  fs::rename(whole, path);
}

void CopyDiskFile(const fs::path& from, const fs::path& to) {
  UniqueFd source = OpenToRead(from);
  UniqueFd target(open(to.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!target) ThrowFileError("make", to, errno);
  if (ioctl(target.get(), FICLONE, source.get()) == 0) return;
  struct stat status{};
  if (fstat(source.get(), &status) != 0 || ftruncate(target.get(), status.st_size) != 0) {
    ThrowFileError("size", to, errno);
  }
  for (off_t data = lseek(source.get(), 0, SEEK_DATA); data >= 0; data = lseek(source.get(), data, SEEK_DATA)) {
    off_t hole = lseek(source.get(), data, SEEK_HOLE);
    CopyPiece(source, target, data, hole, to);
    data = hole;
  }
}

bool HasReflink(const fs::path& directory) {
  // Unnamed files: nothing is left, whatever happens.
  UniqueFd from(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  UniqueFd to(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  return from && to && ioctl(to.get(), FICLONE, from.get()) == 0;
}

}  // namespace mayfly::internal
