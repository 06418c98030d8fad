#include <mayfly/internal/unix_listener.h>

#include <mayfly/internal/files.h>
#include <mayfly/internal/unix_address.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

namespace mayfly::internal {

UniqueFd ListenOn(const std::filesystem::path& path, int waiting) {
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::optional<sockaddr_un> address = UnixAddress(path);
  if (!address) ThrowFileError("listen on", path, ENAMETOOLONG);
  unlink(path.c_str());
  if (!listener || bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 ||
      listen(listener.get(), waiting) != 0) {
    ThrowFileError("listen on", path, errno);
  }
  return listener;
}

}  // namespace mayfly::internal
