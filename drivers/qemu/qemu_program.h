// The QEMU of this host: which program it is and how old.
//
//   QemuProgram qemu = FindQemu();          // throws HostLacks when there is none, or it is too old
//   qemu.Text() == "QEMU 7.2.22 (/usr/bin/qemu-system-x86_64)"
//
// $MAYFLY_QEMU names another program than qemu-system-x86_64 on PATH. $MAYFLY_QEMU_ARGS is appended to the command line
// of every VM, split at spaces: an escape hatch for trying something out.
#pragma once

#include <compare>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

struct QemuVersion {
  int major = 0;
  int minor = 0;
  int micro = 0;
  friend auto operator<=>(const QemuVersion&, const QemuVersion&) = default;
  std::string ToString() const;
};

// 7.2 has unix sockets as datagram backends (-netdev dgram), devices and netdevs in JSON, and is what Debian 12 has.
inline constexpr QemuVersion kOldestQemu = {7, 2, 0};

struct QemuProgram {
  std::filesystem::path path{};
  QemuVersion version{};
  std::string Text() const;
};

// Reads what `--version` prints. Nothing when it is no such text.
std::optional<QemuVersion> ParseQemuVersion(std::string_view output);

// Starts the program once for each of its versions; the answer is kept in the cache directory. Throws HostLacks.
QemuProgram FindQemu();

// $MAYFLY_QEMU_ARGS as arguments.
std::vector<std::string> ExtraQemuArguments();

}  // namespace mayfly::internal
