#include <mayfly/internal/message_socket.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace mayfly::internal {
namespace {

[[noreturn]] void ThrowBroken(const std::string& what) {
  throw HostLacks({.summary = "the pool connection broke: " + what});
}

[[noreturn]] void ThrowGone() { throw PeerGone({.summary = "the other end of the pool connection has gone away"}); }

std::string ErrnoText(int error) { return std::generic_category().message(error); }

size_t LengthOf(const std::array<unsigned char, 4>& header) {
  size_t length = 0;
  for (size_t i = 0; i < header.size(); ++i) length |= size_t{header[i]} << (8 * i);
  return length;
}

std::vector<unsigned char> Frame(const nlohmann::json& body) {
  std::vector<unsigned char> frame(4);
  nlohmann::json::to_cbor(body, frame);
  size_t length = frame.size() - 4;
  if (length > kMaxMessage) ThrowBroken(fmt::format("a message of {} bytes; the limit is {}", length, kMaxMessage));
  for (size_t i = 0; i < 4; ++i) frame[i] = static_cast<unsigned char>(length >> (8 * i));
  return frame;
}

void TakeDescriptors(const msghdr& header, std::vector<UniqueFd>& descriptors) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&header), part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  if (descriptors.size() > kMaxDescriptors) ThrowBroken("too many descriptors in one message");
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    ThrowBroken("descriptors of a message were lost; raise the limit of open files (ulimit -n)");
  }
}

ucred PeerCredentials(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) ThrowBroken(ErrnoText(errno));
  return peer;
}

}  // namespace

void MessageSocket::WaitUntil(short events, Deadline deadline) const {
  pollfd waiting{socket_.get(), events, 0};
  while (true) {
    int ready = poll(&waiting, 1, deadline.RemainingForPoll());
    if (ready > 0) return;
    if (ready == 0 && deadline.Passed()) throw Timeout({.summary = "the other end of a pool connection does not move"});
    if (ready < 0 && errno != EINTR) ThrowBroken(ErrnoText(errno));
  }
}

void MessageSocket::Send(const nlohmann::json& body, std::span<const int> descriptors, Deadline deadline) {
  if (descriptors.size() > kMaxDescriptors) ThrowBroken("too many descriptors in one message");
  std::vector<unsigned char> frame = Frame(body);
  alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control{};
  size_t sent = 0;
  while (sent < frame.size()) {
    iovec data{frame.data() + sent, frame.size() - sent};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    if (sent == 0 && !descriptors.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      cmsghdr* part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t count = sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      WaitUntil(POLLOUT, deadline);
    } else if (errno == EPIPE || errno == ECONNRESET) {
      ThrowGone();
    } else if (errno != EINTR) {
      ThrowBroken(ErrnoText(errno));
    }
  }
}

bool MessageSocket::ReadExactly(std::span<unsigned char> bytes, std::vector<UniqueFd>& descriptors, Deadline deadline) {
  alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control{};
  size_t filled = 0;
  while (filled < bytes.size()) {
    iovec data{bytes.data() + filled, bytes.size() - filled};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ssize_t count = recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count > 0) {
      TakeDescriptors(header, descriptors);
      filled += static_cast<size_t>(count);
    } else if (count == 0 || errno == ECONNRESET) {
      if (filled == 0) return false;
      ThrowGone();
    } else if (errno == EAGAIN) {
      WaitUntil(POLLIN, deadline);
    } else if (errno != EINTR) {
      ThrowBroken(ErrnoText(errno));
    }
  }
  return true;
}

std::optional<Message> MessageSocket::Receive(Deadline deadline) {
  Message message;
  std::array<unsigned char, 4> header{};
  if (!ReadExactly(header, message.descriptors, deadline)) return std::nullopt;
  size_t length = LengthOf(header);
  if (length > kMaxMessage) ThrowBroken(fmt::format("a message of {} bytes; the limit is {}", length, kMaxMessage));
  std::vector<unsigned char> bytes(length);
  if (!ReadExactly(bytes, message.descriptors, deadline)) ThrowGone();
  message.body = nlohmann::json::from_cbor(bytes, /*strict=*/true, /*allow_exceptions=*/false);
  if (!message.body.is_object()) ThrowBroken("a message that is no CBOR object");
  return message;
}

void MessageSocket::StopReceiving() { shutdown(socket_.get(), SHUT_RD); }

std::pair<UniqueFd, UniqueFd> SocketPair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw HostLacks({.summary = "cannot make a socket: " + ErrnoText(errno),
                     .next_step = "raise the limit of open files (ulimit -n)"});
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

uid_t PeerUser(int socket) { return PeerCredentials(socket).uid; }
pid_t PeerProcess(int socket) { return PeerCredentials(socket).pid; }

}  // namespace mayfly::internal
