// Forwarded ports: connections to and from the guest's loopback, each a pair of streams under flow control.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "operations.h"

namespace mayfly::agent {

using internal::agent::kFrameCost;
using internal::agent::kFromGuest;
using internal::agent::kMaxConnections;
using internal::agent::kToGuest;
using internal::agent::kWindow;

namespace {

constexpr size_t kPiece = 64 << 10;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address Loopback(int family, uint16_t port) {
  Address address;
  if (family == AF_INET) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&address.storage, &four, sizeof four);
    address.size = sizeof four;
  } else {
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    six.sin6_addr = in6addr_loopback;
    memcpy(&address.storage, &six, sizeof six);
    address.size = sizeof six;
  }
  return address;
}

// One connection. It ends when both directions have ended, or at the first error.
class Connection : public Request {
 public:
  using Request::Request;
  ~Connection() override { server_.loop().Forget(socket_.get()); }

  // Connects to IPv4's loopback, then to IPv6's.
  void Dial(uint16_t port, int family = AF_INET) {
    port_ = port;
    family_ = family;
    socket_.Reset(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    Address address = Loopback(family, port);
    if (!socket_) return DialFailed(errno);
    if (connect(socket_.get(), address.get(), address.size) == 0) return Connected();
    if (errno != EINPROGRESS) return DialFailed(errno);
    server_.loop().Watch(socket_.get(), EPOLLOUT, [this](uint32_t) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      error == 0 ? Connected() : DialFailed(error);
    });
  }

  void Adopt(UniqueFd socket) {
    socket_ = std::move(socket);
    connected_ = true;
    Update();
  }

  void Take(const Message& message, std::string_view body) override {
    std::string_view type = message.type();
    if (type == "credit") {
      credit_ = std::min(kWindow, credit_ + static_cast<int64_t>(std::min<uint64_t>(message.Number("n"), kWindow)));
    } else if (type == "data") {
      if (pending_.size() + body.size() > static_cast<size_t>(kWindow)) return Fail(EPROTO, "more data than credit");
      pending_ += body;
      GiveBack(kToGuest, kFrameCost, kWindow);
      Write();
    } else if (type == "eof") {
      input_ended_ = true;
      Write();
    }
    Update();
  }

  void Resume() override { Update(); }

 private:
  void DialFailed(int error) {
    server_.loop().Forget(socket_.get());
    if (family_ == AF_INET && error == ECONNREFUSED) return Dial(port_, AF_INET6);
    Fail(error, "port " + std::to_string(port_) + " of the guest's loopback");
  }

  void Connected() {
    connected_ = true;
    Send(Reply("ready"));
    Write();
    Update();
  }

  void OnReady(uint32_t events) {
    if ((events & (EPOLLOUT | EPOLLERR)) != 0) Write();
    if (!finished() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Read();
    Update();
  }

  void Read() {
    int64_t allowed = credit_ - kFrameCost;
    if (allowed <= 0 || output_ended_) return;
    std::string header = Reply("data").Set("st", kFromGuest).Finish();
    std::span<char> space = server_.channel().Begin(header, static_cast<size_t>(std::min<int64_t>(allowed, kPiece)));
    ssize_t count = read(socket_.get(), space.data(), space.size());
    if (count > 0) {
      server_.channel().Commit(static_cast<size_t>(count));
      credit_ -= count + kFrameCost;
      return;
    }
    server_.channel().Abandon();
    if (count < 0 && errno != EAGAIN && errno != EINTR) return Fail(errno, "connection");
    if (count == 0) {
      output_ended_ = true;
      Send(Reply("eof").Set("st", kFromGuest));
    }
  }

  void Write() {
    if (!connected_ || finished()) return;
    size_t written = 0;
    while (written < pending_.size()) {
      ssize_t count = send(socket_.get(), pending_.data() + written, pending_.size() - written, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) break;
      if (count < 0) return Fail(errno, "connection");
      written += static_cast<size_t>(count);
    }
    pending_.erase(0, written);
    if (written > 0) GiveBack(kToGuest, static_cast<int64_t>(written), kWindow);
    if (pending_.empty() && input_ended_ && !std::exchange(shut_, true)) shutdown(socket_.get(), SHUT_WR);
  }

  // Watches for what can be done now.
  void Update() {
    if (finished() || !connected_) return;
    if (output_ended_ && shut_) return Done();
    bool may_read = !output_ended_ && credit_ > kFrameCost && !server_.channel().congested();
    uint32_t wanted = (may_read ? EPOLLIN : 0u) | (pending_.empty() ? 0u : EPOLLOUT);
    if (wanted == watched_) return;
    watched_ = wanted;
    if (wanted == 0) return server_.loop().Forget(socket_.get());
    server_.loop().Watch(socket_.get(), wanted, [this](uint32_t events) { OnReady(events); });
  }

  UniqueFd socket_;
  uint16_t port_ = 0;
  int family_ = AF_INET;
  bool connected_ = false;
  uint32_t watched_ = 0;
  int64_t credit_ = kWindow;
  std::string pending_;
  bool input_ended_ = false;   // the host sends no more
  bool shut_ = false;          // and the socket was told
  bool output_ended_ = false;  // the socket's peer sends no more
};

// A listening port; its connections are requests of their own, with ids that the agent chooses.
class Listen : public Request {
 public:
  using Request::Request;
  ~Listen() override { server_.loop().Forget(socket_.get()); }

  void Begin(uint16_t port) {
    socket_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int on = 1;
    setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    Address address = Loopback(AF_INET, port);
    if (bind(socket_.get(), address.get(), address.size) != 0 || listen(socket_.get(), 64) != 0 ||
        getsockname(socket_.get(), address.get(), &address.size) != 0) {
      return Fail(errno, "port " + std::to_string(port) + " of the guest's loopback");
    }
    sockaddr_in bound{};
    memcpy(&bound, &address.storage, sizeof bound);
    Send(Reply("ready").Set("port", uint64_t{ntohs(bound.sin_port)}));
    server_.loop().Watch(socket_.get(), EPOLLIN, [this](uint32_t) { Accept(); });
  }

 private:
  void Accept() {
    UniqueFd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket || server_.full() || server_.connections() >= kMaxConnections)
      return;  // closed: the guest sees a reset
    uint64_t id = server_.NewConnectionId();
    Send(Reply("accept").Set("conn", id));
    auto connection = std::make_unique<Connection>(server_, id);
    Connection* added = connection.get();
    server_.Add(std::move(connection));
    added->Adopt(std::move(socket));
  }

  UniqueFd socket_;
};

}  // namespace

std::unique_ptr<Request> StartDial(Server& server, uint64_t id, const Message& message, std::string_view /*body*/) {
  auto connection = std::make_unique<Connection>(server, id);
  connection->Dial(static_cast<uint16_t>(message.Number("port")));
  return connection;
}

std::unique_ptr<Request> StartListen(Server& server, uint64_t id, const Message& message, std::string_view /*body*/) {
  auto listener = std::make_unique<Listen>(server, id);
  listener->Begin(static_cast<uint16_t>(message.Number("port")));
  return listener;
}

}  // namespace mayfly::agent
