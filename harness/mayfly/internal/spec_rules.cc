#include <mayfly/internal/spec_rules.h>

#include <fcntl.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include <mayfly/internal/unique_fd.h>

namespace mayfly::internal {
namespace {

constexpr std::string_view kAlphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kHexadecimal = "0123456789abcdefABCDEF";

// What marks a kernel: some bytes at an offset of the file.
struct Magic {
  size_t offset;
  std::string_view bytes;
};
constexpr std::array kKernelMagics = {Magic{0x202, "HdrS"},
                                      Magic{0,
                                            "\x7f"
                                            "ELF"},
                                      Magic{56, "ARM\x64"}};
constexpr size_t kMagicEnd = 0x206;

void CheckOpens(const SpecPath& path, const std::filesystem::path& file, int flags, std::string_view verb) {
  UniqueFd fd(open(file.c_str(), flags | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() >= 0) return;
  path.Refuse(fmt::format("{} cannot be {}: {}", Quoted(file.native()), verb, std::generic_category().message(errno)));
}

void CheckExists(const SpecPath& path, const std::filesystem::path& file, std::string_view allowed) {
  std::error_code error;
  if (std::filesystem::exists(file, error)) return;
  if (!error) path.Refuse(Quoted(file.native()) + " does not exist", allowed);
  path.Refuse(fmt::format("{} cannot be read: {}", Quoted(file.native()), error.message()));
}

}  // namespace

void CheckRange(const SpecPath& path, uint64_t value, uint64_t least, uint64_t most) {
  if (value < least || value > most) {
    path.Refuse(fmt::format("{} is not allowed", value), fmt::format("{} to {}", least, most));
  }
}

void CheckMultiple(const SpecPath& path, Bytes value, Bytes unit) {
  if (value.count() % unit.count() == 0) return;
  path.Refuse(Quoted(ToString(value)) + " is not allowed", "multiples of " + ToString(unit));
}

void CheckWord(const SpecPath& path, std::string_view value, size_t longest, std::string_view also) {
  bool fits = !value.empty() && value.size() <= longest;
  bool known = std::all_of(value.begin(), value.end(), [also](char c) {
    return kAlphanumeric.find(c) != std::string_view::npos || also.find(c) != std::string_view::npos;
  });
  if (fits && known) return;
  path.Refuse(Quoted(value) + " is not allowed", fmt::format("1 to {} of [a-zA-Z0-9{}]", longest, also));
}

void CheckFile(const SpecPath& path, const std::filesystem::path& file, std::string_view allowed, bool writable) {
  CheckExists(path, file, allowed);
  if (std::filesystem::is_directory(file)) path.Refuse(Quoted(file.native()) + " is a directory", allowed);
  CheckOpens(path, file, O_RDONLY, "read");
  if (writable) CheckOpens(path, file, O_WRONLY, "written");
}

void CheckDirectory(const SpecPath& path, const std::filesystem::path& directory) {
  CheckExists(path, directory, "a directory");
  if (!std::filesystem::is_directory(directory)) {
    path.Refuse(Quoted(directory.native()) + " is no directory", "a directory");
  }
  CheckOpens(path, directory, O_RDONLY | O_DIRECTORY, "read");
}

void CheckSocketPath(const SpecPath& path, std::string_view socket) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (socket.empty()) path.Refuse("is not given", "the path of a unix socket");
  if (socket.size() <= kLongest) return;
  path.Refuse(fmt::format("{} has {} bytes", Quoted(socket), socket.size()), fmt::format("at most {} bytes", kLongest));
}

void CheckMac(const SpecPath& path, std::string_view mac) {
  constexpr std::string_view kExample = "six bytes such as 52:54:00:12:34:56";
  constexpr size_t kLength = 17;
  bool well_formed = mac.size() == kLength;
  for (size_t i = 0; well_formed && i < kLength; ++i) {
    well_formed = i % 3 == 2 ? mac[i] == ':' : kHexadecimal.find(mac[i]) != std::string_view::npos;
  }
  if (!well_formed) path.Refuse(Quoted(mac) + " is no MAC address", kExample);
  // The lowest bit of the first byte marks a group (multicast, broadcast): it is in its second digit.
  bool group = std::string_view("13579bdfBDF").find(mac[1]) != std::string_view::npos;
  if (group) path.Refuse(Quoted(mac) + " is the address of a group", "an even first byte, such as 52:54:00:12:34:56");
  if (mac.find_first_not_of("0:") == std::string_view::npos) path.Refuse(Quoted(mac) + " is no address", kExample);
}

void CheckKernel(const SpecPath& path, const std::filesystem::path& file) {
  CheckFile(path, file, "a kernel file");
  std::string head(kMagicEnd, '\0');
  std::ifstream(file, std::ios::binary).read(head.data(), static_cast<std::streamsize>(head.size()));
  bool known = std::any_of(kKernelMagics.begin(), kKernelMagics.end(), [&head](const Magic& magic) {
    return std::string_view(head).substr(magic.offset, magic.bytes.size()) == magic.bytes;
  });
  if (!known) path.Refuse(Quoted(file.native()) + " is no Linux kernel", "a bzImage, an ELF vmlinux or an arm64 Image");
}

void UniqueValues::Add(const SpecPath& path, std::string value) {
  auto [found, added] = field_of_.try_emplace(std::move(value), path.field());
  if (!added)
    path.Refuse(fmt::format("{} is that of {} too", Quoted(found->first), found->second), "one that is unique");
}

}  // namespace mayfly::internal
