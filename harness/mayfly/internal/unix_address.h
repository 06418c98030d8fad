// Addresses of unix sockets.
//
//   std::optional<sockaddr_un> address = UnixAddress(path);       // nothing: the name is too long
//   connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <optional>

namespace mayfly::internal {

inline std::optional<sockaddr_un> UnixAddress(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) return std::nullopt;
  path.native().copy(address.sun_path, path.native().size());
  return address;
}

}  // namespace mayfly::internal
