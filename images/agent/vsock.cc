#include "vsock.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include <cerrno>
#include <utility>

namespace mayfly::agent {
namespace {

// Nothing tells that a host listens again (one that handed the guest over to another) or that the device is there.
constexpr Milliseconds kPause(100);

}  // namespace

VsockLink::VsockLink(Loop& loop, int port, std::function<void(UniqueFd stream)> connected)
    : loop_(loop), port_(port), connected_(std::move(connected)) {
  Connect();
}

VsockLink::~VsockLink() {
  loop_.Cancel(later_);
  if (connecting_) loop_.Forget(connecting_.get());
}

void VsockLink::Connect() {
  if (connecting_ || later_ != 0) return;
  connecting_.Reset(socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connecting_) return TryLater();
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_HOST;
  address.svm_port = static_cast<unsigned>(port_);
  if (connect(connecting_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
    return TryLater();
  }
  loop_.Watch(connecting_.get(), EPOLLOUT, [this](uint32_t) { Finish(); });
}

void VsockLink::Finish() {
  loop_.Forget(connecting_.get());
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(connecting_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return TryLater();
  connected_(std::move(connecting_));
}

void VsockLink::TryLater() {
  connecting_.Reset();
  later_ = loop_.After(kPause, [this] {
    later_ = 0;
    Connect();
  });
}

}  // namespace mayfly::agent
