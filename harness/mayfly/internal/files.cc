#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/bytes.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>

#include <cerrno>
#include <system_error>

namespace mayfly::internal {

void ThrowFileError(std::string_view what, const std::filesystem::path& path, int error) {
  ErrorText text{
      .summary = fmt::format("cannot {} {}: {}", what, path.native(), std::generic_category().message(error)),
      .notes = {},
      .next_step = {}};
  if (error == ENOSPC || error == EDQUOT) {
    text.next_step =
        fmt::format("free space on the file system of {}, or put the cache elsewhere with MAYFLY_CACHE_DIR",
                    path.parent_path().native());
  }
  throw HostLacks(std::move(text));
}

UniqueFd OpenToRead(const std::filesystem::path& file) {
  UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) ThrowFileError("read", file, errno);
  return fd;
}

UniqueFd OpenToWrite(const std::filesystem::path& file, uint32_t mode) {
  UniqueFd fd(open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) ThrowFileError("write", file, errno);
  return fd;
}

size_t ReadSome(const UniqueFd& fd, std::span<char> buffer, const std::filesystem::path& file) {
  while (true) {
    ssize_t count = read(fd.get(), buffer.data(), buffer.size());
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR) ThrowFileError("read", file, errno);
  }
}

void WriteAll(const UniqueFd& fd, std::string_view bytes, const std::filesystem::path& file) {
  while (!bytes.empty()) {
    ssize_t count = write(fd.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) ThrowFileError("write", file, errno);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

std::string ReadWholeFile(const std::filesystem::path& file, uint64_t limit) {
  UniqueFd fd = OpenToRead(file);
  std::string content;
  size_t filled = 0;
  while (true) {
    if (filled == content.size()) content.resize(std::max<size_t>(1 << 16, content.size() * 2));
    size_t count = ReadSome(fd, std::span(content).subspan(filled), file);
    if (count == 0) break;
    filled += count;
    if (filled > limit) {
      throw BadSpec({.summary = fmt::format("{} is larger than {}", file.native(), ToString(Bytes(limit))),
                     .notes = {},
                     .next_step = {}});
    }
  }
  content.resize(filled);
  return content;
}

void WriteWholeFile(const std::filesystem::path& file, std::string_view bytes, uint32_t mode) {
  UniqueFd fd = OpenToWrite(file, mode);
  WriteAll(fd, bytes, file);
}

}  // namespace mayfly::internal
