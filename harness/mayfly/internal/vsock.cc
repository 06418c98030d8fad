#include <mayfly/internal/vsock.h>

#include <mayfly/errors.h>

#ifdef __linux__
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <chrono>
#include <random>
#include <system_error>

namespace mayfly::internal {
namespace {

// VHOST_VSOCK_SET_GUEST_CID of linux/vhost.h, which is no C++.
constexpr unsigned long kSetGuestCid = _IOW(0xAF, 0x60, uint64_t);  // NOLINT(google-runtime-int): ioctl's type

constexpr uint32_t kFirstRandomCid = 1000;  // lower ones are what people choose

sockaddr_vm VsockAddress(uint32_t cid, uint32_t port) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

std::string Words(int error) { return std::generic_category().message(error); }

UniqueFd StreamSocket() {
  UniqueFd stream(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!stream) {
    throw HostLacks({.summary = fmt::format("this host's kernel has no vsock: {}", Words(errno)),
                     .next_step = "sudo modprobe vhost_vsock"});
  }
  return stream;
}

}  // namespace

GuestVsock ReserveVsock(uint32_t wanted) {
  GuestVsock vsock{.vhost = UniqueFd(open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC))};
  if (!vsock.vhost) {
    throw HostLacks({.summary = fmt::format("vsock: /dev/vhost-vsock: {}", Words(errno)),
                     .next_step =
                         "sudo modprobe vhost_vsock, and see that this user may open it; or run in an emulated "
                         "host: mayfly host"});
  }
  std::random_device random;
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    vsock.cid = wanted != 0 ? wanted : kFirstRandomCid + random() % (UINT32_MAX / 2);
    uint64_t cid = vsock.cid;
    if (ioctl(vsock.vhost.get(), kSetGuestCid, &cid) == 0) return vsock;
    if (errno != EADDRINUSE || wanted != 0) break;
  }
  throw HostLacks({.summary = fmt::format("vsock: cid {} cannot be had: {}", vsock.cid, Words(errno)),
                   .next_step = "leave cid out for one that is free"});
}

UniqueFd ConnectToGuest(uint32_t cid, uint32_t port, Duration patience) {
  UniqueFd stream = StreamSocket();
  constexpr auto kSecond = std::chrono::seconds(1);
  timeval time{.tv_sec = patience / kSecond, .tv_usec = 0};
  setsockopt(stream.get(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &time, sizeof time);
  const sockaddr_vm address = VsockAddress(cid, port);
  if (connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return stream;
  if (errno == ETIMEDOUT) {
    throw Timeout(
        {.summary = fmt::format("vsock: the guest did not answer on port {} in {}", port, ForPeople(patience))});
  }
  throw GuestFailed({.summary = fmt::format("vsock: port {} of the guest: {}", port, Words(errno)),
                     .next_step = "see that somebody listens there, and that the guest has its driver: modprobe "
                                  "vmw_vsock_virtio_transport"});
}

UniqueFd ListenForGuests(uint32_t port) {
  UniqueFd listener = StreamSocket();
  const sockaddr_vm address = VsockAddress(VMADDR_CID_ANY, port);
  constexpr int kWaiting = 16;
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), kWaiting) != 0) {
    throw HostLacks({.summary = fmt::format("vsock: cannot listen on port {}: {}", port, Words(errno)),
                     .next_step = "choose another port: it is one for all guests of this host"});
  }
  return listener;
}

}  // namespace mayfly::internal

#else

namespace mayfly::internal {

constexpr const char* kOnLinux = "vhost_vsock exists on Linux only";

GuestVsock ReserveVsock(uint32_t) { throw HostLacks({.summary = kOnLinux}); }
UniqueFd ConnectToGuest(uint32_t, uint32_t, Duration) { throw HostLacks({.summary = kOnLinux}); }
UniqueFd ListenForGuests(uint32_t) { throw HostLacks({.summary = kOnLinux}); }

}  // namespace mayfly::internal

#endif
