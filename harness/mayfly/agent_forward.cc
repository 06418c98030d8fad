// Forwarded ports, on the host's side: sockets on the loopback whose bytes travel as streams of the agent channel.
#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <mayfly/agent.h>
#include <mayfly/internal/agent_connection.h>
#include <mayfly/internal/blocking_call.h>
#include <mayfly/internal/io_thread.h>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

namespace mayfly {

using boost::asio::ip::tcp;
using internal::AgentConnection;
using internal::IoContext;
using internal::RunOnIoThread;
using internal::agent::kFrameCost;
using internal::agent::kFromGuest;
using internal::agent::kMaxConnections;
using internal::agent::kToGuest;
using internal::agent::kWindow;
using internal::agent::Message;
using internal::agent::MessageWriter;

namespace {

constexpr size_t kPiece = 64 << 10;

// One forwarded connection. I/O thread only. It keeps itself alive by its handlers and is gone when both directions
// have ended, at an error on either side, or at Close.
class ForwardedConnection : public std::enable_shared_from_this<ForwardedConnection> {
 public:
  ForwardedConnection(std::shared_ptr<AgentConnection> agent, tcp::socket socket)
      : agent_(std::move(agent)), socket_(std::move(socket)) {}

  AgentConnection::Handlers Handlers(std::string what) {
    return {.what = std::move(what),
            .on_message = [self = shared_from_this()](const Message& message, std::string_view,
                                                      std::string_view body) { self->OnMessage(message, body); },
            .on_failed = [self = shared_from_this()](const std::exception_ptr&) { self->Close(); },
            .window = kWindow};
  }

  // The host's side is connected, the guest's is being made.
  void Dial(uint16_t port) {
    MessageWriter request("dial");
    request.Set("port", uint64_t{port});
    id_ = agent_->Call(std::move(request), {}, Handlers(fmt::format("connect to port {}", port)));
  }

  // The guest's side is connected, the host's is being made.
  void Connect(uint64_t id, uint16_t port) {
    id_ = id;
    socket_.async_connect(tcp::endpoint(boost::asio::ip::address_v4::loopback(), port),
                          [self = shared_from_this()](const boost::system::error_code& error) {
                            if (error) return self->Close();
                            self->connected_ = true;
                            self->ReadSocket();
                            self->WriteSocket();
                          });
  }

  void Close() {
    if (std::exchange(closed_, true)) return;
    boost::system::error_code ignored;
    socket_.close(ignored);
    agent_->Cancel(id_);
  }

  bool closed() const { return closed_; }

 private:
  void OnMessage(const Message& message, std::string_view body) {
    std::string_view type = message.type();
    if (type == "ready") {
      connected_ = true;
      ReadSocket();
    } else if (type == "data") {
      pending_ += body;
      frames_ += 1;
      WriteSocket();
    } else if (type == "eof") {
      guest_ended_ = true;
      WriteSocket();
    } else if (type == "credit") {
      credit_ = std::min(kWindow, credit_ + static_cast<int64_t>(std::min<uint64_t>(message.Number("n"), kWindow)));
      ReadSocket();
    } else if (type == "done") {
      // The guest has all our bytes; ours may still be on their way into the socket.
      done_ = true;
      WriteSocket();
    } else {
      Close();
    }
  }

  // From the socket to the guest.
  void ReadSocket() {
    if (closed_ || !connected_ || reading_ || host_ended_ || credit_ <= kFrameCost) return;
    reading_ = true;
    buffer_.resize(static_cast<size_t>(std::min<int64_t>(credit_ - kFrameCost, kPiece)));
    socket_.async_read_some(boost::asio::buffer(buffer_),
                            [self = shared_from_this()](const boost::system::error_code& error, size_t count) {
                              self->OnSocketRead(error, count);
                            });
  }

  void OnSocketRead(const boost::system::error_code& error, size_t count) {
    reading_ = false;
    if (closed_) return;
    if (error && error != boost::asio::error::eof) return Close();
    MessageWriter message(error ? "eof" : "data");
    message.Set("st", kToGuest);
    agent_->Send(id_, std::move(message), std::string_view(buffer_).substr(0, error ? 0 : count));
    if (error) {
      host_ended_ = true;
      return;
    }
    credit_ -= static_cast<int64_t>(count) + kFrameCost;
    ReadSocket();
  }

  // From the guest to the socket. Bytes are given back when the socket has taken them.
  void WriteSocket() {
    if (closed_ || !connected_ || writing_size_ > 0) return;
    if (pending_.empty()) {
      if (guest_ended_ && !std::exchange(shut_, true)) {
        boost::system::error_code ignored;
        socket_.shutdown(tcp::socket::shutdown_send, ignored);
      }
      if (done_) Close();
      return;
    }
    writing_ = std::exchange(pending_, {});
    writing_size_ = static_cast<int64_t>(writing_.size()) + std::exchange(frames_, 0) * kFrameCost;
    boost::asio::async_write(socket_, boost::asio::buffer(writing_),
                             [self = shared_from_this()](const boost::system::error_code& error, size_t) {
                               if (self->closed_) return;
                               if (error) return self->Close();
                               self->agent_->GiveBack(self->id_, kFromGuest, std::exchange(self->writing_size_, 0));
                               self->WriteSocket();
                             });
  }

  const std::shared_ptr<AgentConnection> agent_;
  tcp::socket socket_;
  uint64_t id_ = 0;
  bool connected_ = false;
  bool closed_ = false;
  // To the guest.
  int64_t credit_ = kWindow;
  bool reading_ = false;
  bool host_ended_ = false;
  std::string buffer_;
  // From the guest.
  std::string pending_;
  int64_t frames_ = 0;  // in pending_
  std::string writing_;
  int64_t writing_size_ = 0;
  bool guest_ended_ = false;
  bool shut_ = false;
  bool done_ = false;
};

// The connections of one forwarded port. I/O thread only.
class Connections {
 public:
  // Nothing when there are too many.
  std::shared_ptr<ForwardedConnection> Add(const std::shared_ptr<AgentConnection>& agent, tcp::socket socket) {
    std::erase_if(all_, [](const std::weak_ptr<ForwardedConnection>& weak) {
      auto connection = weak.lock();
      return connection == nullptr || connection->closed();
    });
    if (all_.size() >= kMaxConnections) return nullptr;
    auto connection = std::make_shared<ForwardedConnection>(agent, std::move(socket));
    all_.push_back(connection);
    return connection;
  }

  void CloseAll() {
    for (const auto& weak : all_) {
      if (auto connection = weak.lock()) connection->Close();
    }
    all_.clear();
  }

 private:
  std::vector<std::weak_ptr<ForwardedConnection>> all_;
};

// Listens on the host, dials in the guest.
class ToGuest : public std::enable_shared_from_this<ToGuest> {
 public:
  ToGuest(std::shared_ptr<AgentConnection> agent, uint16_t guest_port)
      : agent_(std::move(agent)),
        guest_port_(guest_port),
        acceptor_(IoContext(), tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0)) {}

  uint16_t port() const { return acceptor_.local_endpoint().port(); }

  void Accept() {
    acceptor_.async_accept([self = shared_from_this()](const boost::system::error_code& error, tcp::socket socket) {
      if (!self->acceptor_.is_open()) return;
      if (!error) self->OnAccept(std::move(socket));
      self->Accept();
    });
  }

  void Close() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    connections_.CloseAll();
  }

 private:
  void OnAccept(tcp::socket socket) {
    auto connection = connections_.Add(agent_, std::move(socket));
    if (connection == nullptr) return;  // the socket is closed with it
    try {
      connection->Dial(guest_port_);
    } catch (const Error&) {
      connection->Close();  // no guest: the peer sees its connection closed
    }
  }

  const std::shared_ptr<AgentConnection> agent_;
  const uint16_t guest_port_;
  tcp::acceptor acceptor_;
  Connections connections_;
};

// Listens in the guest, connects on the host.
class ToHost : public std::enable_shared_from_this<ToHost> {
 public:
  ToHost(std::shared_ptr<AgentConnection> agent, uint16_t host_port)
      : agent_(std::move(agent)), host_port_(host_port) {}

  // The port that the guest listens on.
  std::shared_future<uint16_t> Listen(uint16_t guest_port) {
    MessageWriter request("listen");
    request.Set("port", uint64_t{guest_port});
    what_ = fmt::format("listen on port {} of the guest", guest_port);
    id_ = agent_->Call(
        std::move(request), {},
        {.what = what_,
         .on_message = [self = shared_from_this()](const Message& message, std::string_view,
                                                   std::string_view) { self->OnMessage(message); },
         .on_failed = [self = shared_from_this()](std::exception_ptr reason) { self->Refuse(std::move(reason)); }});
    return port_.get_future().share();
  }

  const std::string& what() const { return what_; }

  void Close() {
    agent_->Cancel(id_);
    connections_.CloseAll();
  }

 private:
  void OnMessage(const Message& message) {
    if (message.type() == "ready" && !std::exchange(answered_, true)) {
      port_.set_value(static_cast<uint16_t>(message.Number("port")));
    } else if (message.type() == "accept") {
      uint64_t id = message.Number("conn");
      auto connection = connections_.Add(agent_, tcp::socket(IoContext()));
      if (connection == nullptr) agent_->ThrowProtocolError("more forwarded connections than are allowed");
      agent_->Adopt(id, connection->Handlers(fmt::format("connect to port {} of the host", host_port_)));
      connection->Connect(id, host_port_);
    } else if (message.type() == "error") {
      Refuse(std::make_exception_ptr(agent_->Refusal(what_, message)));
    } else {
      agent_->ThrowProtocolError("an unknown message for a forwarded port");
    }
  }

  void Refuse(std::exception_ptr reason) {
    if (!std::exchange(answered_, true)) port_.set_exception(std::move(reason));
  }

  const std::shared_ptr<AgentConnection> agent_;
  const uint16_t host_port_;
  std::string what_;
  uint64_t id_ = 0;
  std::promise<uint16_t> port_;
  bool answered_ = false;
  Connections connections_;
};

}  // namespace

class PortForward::Impl {
 public:
  Impl(uint16_t port, std::function<void()> close) : port_(port), close_(std::move(close)) {}
  ~Impl() { RunOnIoThread(close_); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  uint16_t port() const { return port_; }

 private:
  const uint16_t port_;
  const std::function<void()> close_;
};

PortForward::PortForward(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PortForward::PortForward(PortForward&&) noexcept = default;
PortForward& PortForward::operator=(PortForward&&) noexcept = default;
PortForward::~PortForward() = default;
uint16_t PortForward::port() const { return impl_->port(); }

PortForward Agent::ForwardToGuest(uint16_t guest_port) {
  auto forward = RunOnIoThread([&] {
    try {
      auto made = std::make_shared<ToGuest>(connection_, guest_port);
      made->Accept();
      return made;
    } catch (const boost::system::system_error& error) {
      throw HostLacks({.summary = connection_->Cannot("listen on the host's loopback", error.what()),
                       .notes = {},
                       .next_step = {}});
    }
  });
  return PortForward(std::make_unique<PortForward::Impl>(forward->port(), [forward] { forward->Close(); }));
}

PortForward Agent::ForwardToHost(uint16_t host_port, uint16_t guest_port) {
  internal::RequireBlockingAllowed("forward a port");
  auto forward = std::make_shared<ToHost>(connection_, host_port);
  auto close = [forward] { forward->Close(); };
  std::shared_future<uint16_t> port = RunOnIoThread([&] { return forward->Listen(guest_port); });
  if (port.wait_until(Deadline::After(Scaled(std::chrono::seconds(30))).time()) != std::future_status::ready) {
    RunOnIoThread(close);
    throw Timeout({.summary = connection_->Cannot(forward->what(), "the guest has not answered in time"),
                   .notes = {},
                   .next_step = {}});
  }
  return PortForward(std::make_unique<PortForward::Impl>(port.get(), close));
}

}  // namespace mayfly
