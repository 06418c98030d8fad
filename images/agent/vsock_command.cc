#include "vsock_command.h"

#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"

namespace mayfly::agent {
namespace {

UniqueFd Accept(const UniqueFd& listener, const sockaddr_vm& address) {
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), 1) != 0) {
    return {};
  }
  return UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

}  // namespace

void RunOverVsock(std::string_view role, unsigned port, char** command) {
  UniqueFd stream(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!stream) return;
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_port = port;
  if (role == "listen") {
    address.svm_cid = VMADDR_CID_ANY;
    stream = Accept(stream, address);
    if (!stream) return;
  } else {
    address.svm_cid = VMADDR_CID_HOST;
    if (connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
  }
  if (dup2(stream.get(), STDIN_FILENO) < 0 || dup2(stream.get(), STDOUT_FILENO) < 0) return;
  execvp(command[0], command);
}

}  // namespace mayfly::agent
