#include "drivers/ch/connection.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/unix_address.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <system_error>
#include <vector>

#include "drivers/ch/api_error.h"

namespace mayfly::ch {
namespace {

std::string Reason(int error) { return std::generic_category().message(error); }

VmmDied Died(const CallContext& call) {
  return VmmDied({.summary = fmt::format("Cloud Hypervisor ended before it had answered '{}'", call.endpoint)});
}

// A connection ends a moment before the process does.
[[noreturn]] void ThrowCutOff(BadAnswer& error, const CallContext& call) {
  constexpr auto kMoment = std::chrono::seconds(2);
  Deadline moment = Deadline::After(std::min<Duration>(Scaled(kMoment), call.deadline.Remaining()));
  if (call.pidfd < 0 || AwaitEnd(call.pidfd, moment)) {
    VmmDied died = Died(call);
    died.AddNote(error.text().summary);
    throw died;
  }
  error.AddNote(fmt::format("in answer to '{}'; its process lives on", call.endpoint));
  throw error;
}

}  // namespace

bool AwaitEnd(int pidfd, Deadline deadline) {
  if (pidfd < 0) return false;
  pollfd ended{pidfd, POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&ended, 1, deadline.RemainingForPoll());
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

Connection::Connection(const std::filesystem::path& socket, const CallContext& call)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  if (!socket_) {
    throw HostLacks({.summary = fmt::format("cannot make a socket: {}", Reason(errno)),
                     .next_step = "raise the limit of open files (ulimit -n)"});
  }
  std::string path = socket.string();
  std::optional<sockaddr_un> address = internal::UnixAddress(path);
  if (!address) {
    throw BadSpec({.summary = fmt::format("the API socket '{}' has a name of {} bytes; allowed: at most {}", path,
                                          path.size(), sizeof(sockaddr_un::sun_path) - 1)});
  }
  while (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    int error = errno;
    if (error == EINTR) continue;
    if (error == ECONNREFUSED) {
      throw VmmDied(
          {.summary = fmt::format("nobody listens on the API socket '{}' any more ('{}')", path, call.endpoint)});
    }
    if (error != EAGAIN) {
      throw HostLacks({.summary = fmt::format("cannot connect to the API socket '{}': {}", path, Reason(error))});
    }
    // All places of the listener's queue are taken, and the kernel offers nothing to wait for.
    if (call.deadline.Passed()) {
      throw Timeout(
          {.summary = fmt::format("the API socket '{}' takes no more connections ('{}')", path, call.endpoint)});
    }
    constexpr auto kPause = std::chrono::milliseconds(20);
    if (AwaitEnd(call.pidfd, Deadline::After(std::min<Duration>(kPause, call.deadline.Remaining())))) throw Died(call);
    if (call.pidfd < 0) poll(nullptr, 0, static_cast<int>(kPause.count()));
  }
}

bool Connection::Usable() const {
  char byte = 0;
  ssize_t count = recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

void Connection::Await(short events, const CallContext& call) const {
  std::array<pollfd, 2> watched = {pollfd{socket_.get(), events, 0}, pollfd{call.pidfd, POLLIN, 0}};
  int ready = 0;
  do {
    ready = poll(watched.data(), watched.size(), call.deadline.RemainingForPoll());
  } while (ready < 0 && errno == EINTR);
  if (watched[0].revents != 0) return;
  if (watched[1].revents != 0) throw Died(call);
  throw Timeout({.summary = fmt::format("Cloud Hypervisor did not answer '{}' in time", call.endpoint),
                 .notes = {call.pidfd < 0 ? "whether it lives is not known"
                                          : "its process lives: the VMM works on this or on an earlier request"}});
}

bool Connection::Send(const std::string& request, std::span<const int> descriptors, const CallContext& call) {
  size_t control_size = CMSG_SPACE(descriptors.size_bytes());
  std::vector<char> control(control_size);
  size_t sent = 0;
  while (sent < request.size()) {
    iovec bytes{.iov_base = const_cast<char*>(request.data()) + sent, .iov_len = request.size() - sent};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    // Descriptors belong to the request whose bytes they come with: they go with the first.
    if (sent == 0 && !descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control_size;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t count = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (count >= 0) {
      sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      Await(POLLOUT, call);
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return false;  // what it said before it closed is still to be read: the answer to an eleventh connection
    } else if (errno != EINTR) {
      throw HostLacks(
          {.summary = fmt::format("cannot send '{}' to Cloud Hypervisor: {}", call.endpoint, Reason(errno))});
    }
  }
  return true;
}

Answer Connection::Exchange(const std::string& request, std::span<const int> descriptors, size_t max_body,
                            const CallContext& call) {
  Send(request, descriptors, call);
  AnswerParser parser(max_body);
  std::array<char, 65536> chunk{};
  try {
    while (!parser.done()) {
      Await(POLLIN, call);
      ssize_t count = recv(socket_.get(), chunk.data(), chunk.size(), 0);
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
      if (count > 0) {
        parser.Feed(std::string_view(chunk.data(), static_cast<size_t>(count)));
        continue;
      }
      try {
        parser.End();
      } catch (BadAnswer& error) {
        ThrowCutOff(error, call);
      }
    }
  } catch (BadAnswer& error) {
    error.AddNote(fmt::format("in answer to '{}'", call.endpoint));
    throw;
  }
  return parser.Take();
}

}  // namespace mayfly::ch
