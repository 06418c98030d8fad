#include "drivers/qemu/qmp.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/internal/io_thread.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <future>
#include <map>
#include <system_error>
#include <utility>

namespace mayfly::internal {
namespace {

using nlohmann::json;

// The beginning of what was received, fit for a message.
std::string Excerpt(std::string_view line) {
  constexpr size_t kShown = 120;
  std::string shown;
  for (char c : line.substr(0, kShown)) shown.push_back(c >= ' ' && c <= '~' ? c : '?');
  return line.size() > kShown ? shown + "…" : shown;
}

VmmDied ConnectionLost(const std::string& doing, const std::string& reason) {
  return VmmDied({.summary = fmt::format("{}: {}", doing, reason)});
}

}  // namespace

QmpError::QmpError(std::string command, std::string description)
    : Error({.summary = fmt::format("QEMU refused '{}': {}", command, description)}),
      description_(std::move(description)) {}

// All state belongs to the I/O thread.
class QmpClient::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(UniqueFd socket, Handlers handlers, std::string received)
      : socket_(IoContext(), boost::asio::local::stream_protocol(), socket.Release()),
        handlers_(std::move(handlers)),
        line_(std::move(received)) {}

  void Start() { Read(); }

  // A reply that will come: the message that carries `id`, or the greeting.
  std::shared_future<json> Await(const std::string& id) {
    std::promise<json>& promise = awaited_[id];
    std::shared_future<json> reply = promise.get_future().share();
    if (closed_) Fail(id);
    if (id == kGreeting && !greeting_.is_null()) Fulfil(id, greeting_);
    return reply;
  }

  void Forget(const std::string& id) { awaited_.erase(id); }

  void Send(std::string line, UniqueFd descriptor) {
    if (closed_) return;
    outgoing_.push_back({std::move(line), std::move(descriptor)});
    if (outgoing_.size() == 1) Write();
  }

  void Drain() {
    while (!closed_) {
      pollfd ready{socket_.native_handle(), POLLIN, 0};
      if (poll(&ready, 1, 0) <= 0) return;
      ssize_t count = recv(socket_.native_handle(), chunk_.data(), chunk_.size(), MSG_DONTWAIT);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
      count > 0 ? Receive(std::string_view(chunk_.data(), count)) : End();
    }
  }

  // From here on nobody is told anything.
  void Abandon() {
    handlers_ = {};
    Close(true, "the connection was closed by this side");
  }

  Released Release() {
    handlers_ = {};
    Released released{.socket = UniqueFd(fcntl(socket_.native_handle(), F_DUPFD_CLOEXEC, 3)), .received = line_};
    Close(true, "the connection was handed over");
    return released;
  }

  static constexpr const char* kGreeting = "greeting";

 private:
  struct Outgoing {
    std::string line;
    UniqueFd descriptor;
  };

  void Read() {
    // Waiting for readability and reading in Drain keeps one way to read.
    socket_.async_wait(boost::asio::socket_base::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (self->closed_) return;
                         if (error) return self->End();
                         self->Drain();
                         if (!self->closed_) self->Read();
                       });
  }

  // The descriptor goes with the first bytes of its command.
  size_t SendDescriptor(const Outgoing& outgoing) {
    if (!outgoing.descriptor) return 0;
    std::array<char, CMSG_SPACE(sizeof(int))> control{};
    iovec bytes{.iov_base = const_cast<char*>(outgoing.line.data()), .iov_len = outgoing.line.size()};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    int descriptor = outgoing.descriptor.get();
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    ssize_t sent = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<size_t>(sent);  // QEMU tells that it got none
  }

  void Write() {
    std::string_view rest = std::string_view(outgoing_.front().line).substr(SendDescriptor(outgoing_.front()));
    boost::asio::async_write(socket_, boost::asio::buffer(rest.data(), rest.size()),
                             [self = shared_from_this()](const boost::system::error_code& error, size_t) {
                               if (self->closed_) return;
                               // What QEMU said before it went is still to be read: its end is seen there.
                               if (error) return;
                               self->outgoing_.pop_front();
                               if (!self->outgoing_.empty()) self->Write();
                             });
  }

  void Receive(std::string_view data) {
    while (!data.empty() && !closed_) {
      size_t end = data.find('\n');
      if (line_.size() + std::min(end, data.size()) > kMaxLine) {
        return Close(false, fmt::format("QEMU sent a line of more than {} MiB on its control socket", kMaxLine >> 20));
      }
      line_.append(data.substr(0, end));
      if (end == std::string_view::npos) return;
      data.remove_prefix(end + 1);
      std::string line = std::exchange(line_, {});
      if (line.find_first_not_of("\r\t ") != std::string::npos) Handle(line);
    }
  }

  void Handle(const std::string& line) {
    json message = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!message.is_object()) return Close(false, fmt::format("QEMU sent no QMP message: '{}'", Excerpt(line)));
    if (auto event = message.find("event"); event != message.end() && event->is_string()) {
      if (handlers_.on_event) {
        auto on_event = handlers_.on_event;  // lives on when the handler abandons this connection
        on_event(event->get<std::string>(), message.value("data", json::object()));
      }
    } else if (message.contains("QMP")) {
      greeting_ = message["QMP"];
      Fulfil(kGreeting, greeting_);
    } else if (auto id = message.find("id");
               id != message.end() && id->is_string() && (message.contains("return") || message.contains("error"))) {
      Fulfil(id->get<std::string>(), message);
    } else {
      Close(false, fmt::format("QEMU sent no QMP message: '{}'", Excerpt(line)));
    }
  }

  void Fulfil(const std::string& id, const json& message) {
    auto awaited = awaited_.find(id);
    if (awaited == awaited_.end()) return;  // its caller has given up
    std::promise<json> promise = std::move(awaited->second);
    awaited_.erase(awaited);
    promise.set_value(message);
  }

  void Fail(const std::string& id) {
    std::promise<json> promise = std::move(awaited_[id]);
    awaited_.erase(id);
    promise.set_exception(std::make_exception_ptr(ConnectionLost("QMP", reason_)));
  }

  // Resets count as ends: QEMU was killed with our last command unread.
  void End() {
    if (line_.empty()) return Close(true, "QEMU closed its control socket");
    Close(true, fmt::format("QEMU closed its control socket in the middle of a message: '{}'", Excerpt(line_)));
  }

  void Close(bool in_order, const std::string& reason) {
    if (closed_) return;
    closed_ = true;
    reason_ = reason;
    boost::system::error_code ignored;
    socket_.close(ignored);
    while (!awaited_.empty()) Fail(std::string(awaited_.begin()->first));
    if (auto on_closed = std::exchange(handlers_.on_closed, nullptr)) on_closed(in_order, reason);
  }

  boost::asio::local::stream_protocol::socket socket_;
  Handlers handlers_;
  std::array<char, 65536> chunk_{};
  std::string line_;  // what has come of a line so far
  std::deque<Outgoing> outgoing_;
  json greeting_;
  std::map<std::string, std::promise<json>> awaited_;
  bool closed_ = false;
  std::string reason_;
  uint64_t next_id_ = 0;

  friend class QmpClient;
};

QmpClient::QmpClient(UniqueFd socket, Handlers handlers, std::string received)
    : connection_(std::make_shared<Connection>(std::move(socket), std::move(handlers), std::move(received))) {
  RunOnIoThread([&] { connection_->Start(); });
}

QmpClient::~QmpClient() {
  RunOnIoThread([&] { connection_->Abandon(); });
}

QmpClient::Released QmpClient::Release() {
  return RunOnIoThread([&] { return connection_->Release(); });
}

void QmpClient::Drain() { connection_->Drain(); }

json QmpClient::Negotiate(Deadline deadline) {
  auto reply = RunOnIoThread([&] { return connection_->Await(Connection::kGreeting); });
  if (reply.wait_until(deadline.time()) != std::future_status::ready) {
    throw Timeout({.summary = "QEMU sent no greeting on its control socket"});
  }
  json greeting = reply.get();
  Execute("qmp_capabilities", nullptr, deadline);
  return greeting;
}

struct QmpClient::Pending {
  std::string command;
  std::string id{};
  std::shared_future<json> reply{};
};

QmpClient::Pending QmpClient::Ask(const QmpCommand& command, UniqueFd descriptor) {
  return RunOnIoThread([&] {
    Pending pending{.command = command.name, .id = std::to_string(++connection_->next_id_)};
    json message = {{"execute", command.name}, {"id", pending.id}};
    if (!command.arguments.is_null()) message["arguments"] = command.arguments;
    pending.reply = connection_->Await(pending.id);
    connection_->Send(message.dump() + "\n", std::move(descriptor));
    return pending;
  });
}

json QmpClient::Await(const Pending& pending, Deadline deadline) {
  if (pending.reply.wait_until(deadline.time()) != std::future_status::ready) {
    RunOnIoThread([&] { connection_->Forget(pending.id); });
    throw Timeout({.summary = fmt::format("QEMU did not answer '{}' in time", pending.command)});
  }
  json message = pending.reply.get();
  if (auto error = message.find("error"); error != message.end()) {
    auto text = error->is_object() ? error->find("desc") : error->end();
    throw QmpError(pending.command,
                   text != error->end() && text->is_string() ? text->get<std::string>() : error->dump());
  }
  return message["return"];
}

json QmpClient::Execute(const std::string& command, const json& arguments, Deadline deadline, UniqueFd descriptor) {
  return Await(Ask({command, arguments}, std::move(descriptor)), deadline);
}

void QmpClient::NegotiateAndExecute(const std::vector<QmpCommand>& commands, Deadline deadline) {
  std::vector<Pending> pending = {Ask({"qmp_capabilities"})};
  for (const QmpCommand& command : commands) pending.push_back(Ask(command));
  for (const Pending& one : pending) Await(one, deadline);
}

}  // namespace mayfly::internal
