#include <mayfly/internal/agent_connection.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <mayfly/internal/agent_fix.h>
#include <mayfly/internal/io_thread.h>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>

namespace mayfly::internal {

using agent::Frame;
using agent::kFrameCost;
using agent::kStreams;
using agent::Message;
using agent::MessageWriter;
namespace key = agent::key;

namespace {

constexpr size_t kBuffersAtOnce = 16;
// A guest that restarts more often than this during one connection is up to no good: each time costs memory here.
constexpr uint64_t kMaxGreetings = 20000;
constexpr size_t kShownText = 2000;

uint64_t RandomNumber() {
  uint64_t number = 0;
  while (getrandom(&number, sizeof number, 0) != sizeof number) {
  }
  return number | 1;  // never 0
}

std::string Summary(const std::exception_ptr& reason) {
  try {
    std::rethrow_exception(reason);
  } catch (const Error& error) {
    return error.text().summary;
  } catch (const std::exception& error) {
    return error.what();
  }
}

template <typename ErrorType>
bool AddNoteTo(const std::exception_ptr& reason, const std::string& note, std::exception_ptr* out) {
  try {
    std::rethrow_exception(reason);
  } catch (const ErrorType& error) {
    ErrorType copy = error;
    copy.AddNote(note);
    *out = std::make_exception_ptr(copy);
    return true;
  } catch (...) {
    return false;
  }
}

// Text of the guest's for people: bounded, without control characters.
std::string Printable(std::string_view text) {
  std::string shown(text.substr(0, kShownText));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, ' ');
  return shown;
}

bool IsLast(std::string_view type) { return type == "done" || type == "error" || type == "exit"; }
bool IsCharged(std::string_view type) { return type == "data" || type == "entry" || type == "end"; }

}  // namespace

std::exception_ptr WithNote(const std::exception_ptr& reason, const std::string& note) {
  std::exception_ptr out = reason;
  // The classes of errors.h. A copy, because the reason is shared by all calls and read on their threads.
  static_cast<void>(AddNoteTo<GuestFailed>(reason, note, &out) || AddNoteTo<VmmDied>(reason, note, &out) ||
                    AddNoteTo<BootFailed>(reason, note, &out) || AddNoteTo<Timeout>(reason, note, &out) ||
                    AddNoteTo<HostLacks>(reason, note, &out) || AddNoteTo<BadSpec>(reason, note, &out) ||
                    AddNoteTo<Unsupported>(reason, note, &out));
  return out;
}

AgentConnection::AgentConnection(UniqueFd socket, Timeline& timeline, AgentOptions options)
    : options_(std::move(options)),
      timeline_(&timeline),
      transcript_(options_.transcript),
      listener_(IoContext()),
      socket_(IoContext()),
      client_(options_.session ? options_.session->client : RandomNumber()),
      copy_(options_.copy),
      explain_(options_.explain) {
  if (!socket) throw BadSpec({.summary = fmt::format("'{}': no descriptor for the agent's channel", options_.name)});
  int listening = 0;
  socklen_t size = sizeof listening;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0) {
    listener_.assign(socket.Release());
    listener_.non_blocking(true);
    return;
  }
  socket_.assign(boost::asio::generic::stream_protocol(AF_UNIX, 0), socket.get());
  socket.Release();
  socket_.non_blocking(true);
}

AgentConnection::~AgentConnection() = default;

void AgentConnection::Begin() {
  if (listener_.is_open()) return Accept();
  if (options_.session) {
    next_id_ = options_.session->last_request;
    BeginSession(options_.session->hello);
  } else {
    Greet();
  }
  Read();
}

void AgentConnection::Accept() {
  auto on_readable = [self = shared_from_this()](const boost::system::error_code& error) {
    if (self->timeline_ == nullptr) return;
    UniqueFd stream(error ? -1 : accept4(self->listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!stream) {
      std::string why = error ? error.message() : std::generic_category().message(errno);
      // A guest that has hung up again leaves nothing to accept; a listener that was shut down says no more than that.
      pollfd look{.fd = self->listener_.native_handle(), .events = POLLRDHUP, .revents = 0};
      bool again = !error && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR);
      return again && poll(&look, 1, 0) == 0 ? self->Accept() : self->OnStreamEnd(why);
    }
    ++self->stream_;
    self->reader_.Reset();
    self->socket_.assign(boost::asio::generic::stream_protocol(AF_UNIX, 0), stream.Release());
    self->socket_.non_blocking(true);
    self->Greet();
    self->Read();
  };
  listener_.async_wait(boost::asio::posix::stream_descriptor::wait_read, std::move(on_readable));
}

// The end of the guest's stream, or of the listener when there is no stream.
void AgentConnection::OnStreamEnd(const std::string& why) {
  if (!listener_.is_open() || !socket_.is_open()) {
    return Fail(std::make_exception_ptr(
        GuestFailed({.summary = fmt::format("'{}': the agent's channel was closed", options_.name),
                     .notes = {why, "the guest went down, or its VMM did"},
                     .next_step = {}})));
  }
  boost::system::error_code ignored;
  socket_.close(ignored);
  EndSession("the agent hung up: it restarted, or the guest did, or its VMM ended");
  writing_.clear();
  queued_ = 0;
  Accept();
}

std::string AgentConnection::Cannot(std::string_view what, std::string_view why) const {
  return fmt::format("'{}': cannot {}: {}", options_.name, what, why);
}

void AgentConnection::Explain(const GuestFailed& error) const {
  std::function<void(const GuestFailed&)> explain;
  {
    std::lock_guard lock(mutex_);
    explain = explain_;
  }
  if (explain) explain(error);
}

void AgentConnection::ForgetExplainer() {
  std::lock_guard lock(mutex_);
  explain_ = nullptr;
}

GuestFailed AgentConnection::Refusal(std::string_view what, const Message& error) const {
  return GuestFailed({.summary = Cannot(what, Printable(error.Text("text"))), .notes = {}, .next_step = {}});
}

AgentHello AgentConnection::WaitForHello(Deadline deadline, uint64_t other_than) {
  RequireBlockingAllowed("wait for the agent");
  std::unique_lock lock(mutex_);
  auto arrived = [&] { return closed_ != nullptr || (hello_ && hello_->session != other_than); };
  if (!changed_.wait_until(lock, deadline.time(), arrived)) {
    throw Timeout({.summary = Cannot("reach the guest's agent", "it has not answered in time"),
                   .notes = {},
                   .next_step = "is mayfly-agent in the guest, and was it started? The console log tells"});
  }
  if (hello_ && hello_->session != other_than) return *hello_;
  std::rethrow_exception(WithNote(closed_, "while waiting for the guest's agent"));
}

std::optional<AgentHello> AgentConnection::hello() const {
  std::lock_guard lock(mutex_);
  return hello_;
}

Duration AgentConnection::TakeDelayOfCopy() {
  std::lock_guard lock(mutex_);
  return std::exchange(delay_of_copy_, Duration::zero());
}

bool AgentConnection::connected() const {
  std::lock_guard lock(mutex_);
  return closed_ == nullptr;
}

void AgentConnection::OnClosed(std::function<void(const std::string&)> callback) {
  std::string reason;
  {
    std::lock_guard lock(mutex_);
    if (closed_ == nullptr) {
      on_closed_.push_back(std::move(callback));
      return;
    }
    reason = Summary(closed_);
  }
  callback(reason);
}

void AgentConnection::ThrowProtocolError(const std::string& how) const {
  throw GuestFailed({.summary = fmt::format("'{}': the guest's agent broke the protocol: {}", options_.name, how),
                     .notes = {},
                     .next_step =
                         "the agent in the image and this program may be of different builds: build this program "
                         "again, and the image by `mayfly image build`"});
}

uint64_t AgentConnection::Call(MessageWriter request, std::string_view body, Handlers handlers) {
  std::exception_ptr closed;
  {
    std::lock_guard lock(mutex_);
    closed = closed_;
  }
  if (closed != nullptr) std::rethrow_exception(WithNote(closed, "on the attempt to " + handlers.what));
  if (session_ == 0) {
    throw GuestFailed({.summary = Cannot(handlers.what, "the guest's agent has not answered yet"),
                       .notes = {},
                       .next_step = "wait for it: WaitForHello"});
  }
  uint64_t id = next_id_ += 2;
  request.Set(key::kSession, session_).Set(key::kId, id);
  const std::string& header = request.Finish();
  if (header.size() > agent::kMaxHeader || body.size() > agent::kMaxBody) {
    throw BadSpec({.summary = Cannot(handlers.what, fmt::format("it takes {} bytes, and {} are allowed",
                                                                header.size() + body.size(), agent::kMaxBody)),
                   .notes = {},
                   .next_step = "put what is long into a file of the guest: WriteFile"});
  }
  Queue(agent::MakeFrame(header, body));
  calls_.emplace(id,
                 std::make_shared<PendingCall>(PendingCall{.handlers = std::move(handlers), .began = Clock::now()}));
  return id;
}

void AgentConnection::Adopt(uint64_t id, Handlers handlers) {
  if ((id & 1) == 0 || id <= last_connection_) ThrowProtocolError(fmt::format("connection {} is not new", id));
  last_connection_ = id;
  calls_.emplace(id,
                 std::make_shared<PendingCall>(PendingCall{.handlers = std::move(handlers), .began = Clock::now()}));
}

void AgentConnection::Send(uint64_t id, MessageWriter message, std::string_view body) {
  if (calls_.count(id) == 0) return;
  message.Set(key::kSession, session_).Set(key::kId, id);
  Queue(agent::MakeFrame(message.Finish(), body));
}

void AgentConnection::GiveBack(uint64_t id, int stream, int64_t cost) {
  auto found = calls_.find(id);
  if (found == calls_.end()) return;
  PendingCall& call = *found->second;
  auto index = static_cast<size_t>(stream);
  call.charged[index] -= cost;
  call.owed[index] += cost;
  // In portions, so that credit costs few frames; a quarter keeps the sender busy meanwhile.
  if (call.owed[index] < call.handlers.window / 4) return;
  MessageWriter credit("credit");
  credit.Set(key::kStream, stream).Set("n", std::exchange(call.owed[index], 0));
  Send(id, std::move(credit));
}

void AgentConnection::Cancel(uint64_t id) {
  auto found = calls_.find(id);
  if (found == calls_.end()) return;
  Log(*found->second, "cancelled");
  Send(id, MessageWriter("cancel"));
  calls_.erase(found);
}

void AgentConnection::Greet() {
  if (std::exchange(greeting_queued_, true)) return;
  MessageWriter hello("hello?");
  hello.Set("client", client_);
  std::string body;
  if (copy_) {
    hello.Set("fix", true);
    body = AddFix(hello, *copy_);
    told_copy_ = Clock::now();
  }
  Queue(agent::MakeGreeting(hello.Finish(), body));
}

void AgentConnection::Read() {
  std::span<char> space = reader_.Space();
  socket_.async_read_some(
      boost::asio::buffer(space.data(), space.size()),
      [self = shared_from_this(), stream = stream_](const boost::system::error_code& error, size_t count) {
        if (self->timeline_ == nullptr || self->stream_ != stream) return;
        error ? self->OnStreamEnd(error.message()) : self->OnRead(count);
      });
}

void AgentConnection::OnRead(size_t count) {
  reader_.Filled(count);
  try {
    uint64_t skipped = reader_.skipped();
    while (std::optional<Frame> frame = reader_.Next()) {
      Dispatch(*frame);
      if (timeline_ == nullptr) return;  // a handler ended the connection
    }
    if (reader_.skipped() != skipped)
      transcript_.Line(fmt::format("skipped {} bytes of garbage", reader_.skipped() - skipped));
  } catch (...) {
    return Fail(std::current_exception());
  }
  Read();
}

void AgentConnection::Dispatch(const Frame& frame) {
  std::optional<Message> message = Message::Parse(frame.header);
  if (!message) ThrowProtocolError("a header that is no flat CBOR map");
  if (frame.greeting) return OnGreeting(*message);
  if (session_ == 0) return;  // for a host that was here before
  uint64_t id = message->Number(key::kId);
  auto found = calls_.find(id);
  if (found == calls_.end()) {
    if (IsLate(id)) return;
    ThrowProtocolError(
        fmt::format("'{}' for request {}, which was never made", Printable(message->type()).substr(0, 20), id));
  }
  std::string_view type = message->type();
  std::shared_ptr<PendingCall> kept = found->second;  // the handler may end the call
  PendingCall& call = *kept;
  if (IsCharged(type)) Charge(id, call, *message, frame.body.size());
  if (!IsLast(type)) return call.handlers.on_message(*message, frame.header, frame.body);
  calls_.erase(found);
  if (type == "error") {
    Log(call, fmt::format("error {}: {}", message->Signed("errno"), Printable(message->Text("text"))));
  } else if (message->Has("signal")) {
    Log(call, fmt::format("signal {}", message->Signed("signal")));
  } else {
    Log(call, type == "exit" ? fmt::format("exit {}", message->Signed("code")) : "done");
  }
  call.handlers.on_message(*message, frame.header, frame.body);
}

bool AgentConnection::IsLate(uint64_t id) const {
  return id != 0 && ((id & 1) == 0 ? id <= next_id_ : id <= last_connection_);
}

void AgentConnection::Charge(uint64_t id, PendingCall& call, const Message& message, size_t body) {
  uint64_t stream = message.Number(key::kStream, kStreams);
  if (stream == agent::kToGuest || stream >= kStreams)
    ThrowProtocolError(fmt::format("request {} has no stream {}", id, stream));
  call.charged[stream] += static_cast<int64_t>(body) + kFrameCost;
  if (call.charged[stream] + call.owed[stream] > call.handlers.window) {
    ThrowProtocolError(fmt::format("more data than credit for request {} ({})", id, call.handlers.what));
  }
}

void AgentConnection::OnGreeting(const Message& message) {
  if (message.type() != "hello") ThrowProtocolError("a greeting that is no hello");
  if (++greetings_ > kMaxGreetings) ThrowProtocolError("it said hello too often");
  uint64_t session = message.Number("session");
  if (session_ != 0 && session_ != session) {
    bool same_boot = Printable(message.Text("boot")) == hello_->boot_id;
    EndSession(same_boot ? "the guest's agent restarted" : "the guest restarted");
  }
  if (message.Number("client") != client_) return Greet();  // it started just now, or answered another host
  if (session_ == session) return;
  auto protocol = static_cast<uint32_t>(message.Number("protocol"));
  if (protocol != agent::kProtocolVersion) {
    std::string how = fmt::format("it speaks version {}, this program version {}", protocol, agent::kProtocolVersion);
    timeline_->Add("agent", "refused", how);
    ThrowProtocolError(how);
  }
  if (session == 0) ThrowProtocolError("a session without a number");
  if (message.Has("errno")) {
    timeline_->Add("agent", "refused", Printable(message.Text("text")));
    throw Refusal(kFixing, message);
  }
  if (std::exchange(copy_, std::nullopt)) {
    std::lock_guard lock(mutex_);
    delay_of_copy_ = Clock::now() - told_copy_;
  }
  BeginSession({.session = session,
                .protocol = protocol,
                .version = Printable(message.Text("version")),
                .boot_id = Printable(message.Text("boot")),
                .kernel = Printable(message.Text("kernel")),
                .hostname = Printable(message.Text("hostname")),
                .init = message.Flag("init")});
}

void AgentConnection::BeginSession(AgentHello hello) {
  session_ = hello.session;
  std::string detail = fmt::format("agent {}, kernel {}, boot {}", hello.version, hello.kernel, hello.boot_id);
  transcript_.Line("hello: " + detail);
  timeline_->Add("agent", "hello", detail);
  std::lock_guard lock(mutex_);
  hello_ = std::move(hello);
  changed_.notify_all();
}

void AgentConnection::EndSession(const std::string& why) {
  session_ = 0;
  transcript_.Line(why);
  timeline_->Add("agent", "gone", why);
  {
    std::lock_guard lock(mutex_);
    hello_.reset();
  }
  // Frames for the old session. What is being written has to be completed.
  for (const std::string& frame : queue_) queued_ -= frame.size();
  queue_.clear();
  greeting_queued_ = false;
  last_connection_ = 0;
  EndCalls(std::make_exception_ptr(
      GuestFailed({.summary = fmt::format("'{}': {}", options_.name, why), .notes = {}, .next_step = {}})));
}

void AgentConnection::EndCalls(const std::exception_ptr& reason) {
  auto calls = std::exchange(calls_, {});
  for (auto& [id, call] : calls) {
    Log(*call, "failed: " + Summary(reason));
    call->handlers.on_failed(WithNote(reason, "on the attempt to " + call->handlers.what));
  }
}

void AgentConnection::Fail(const std::exception_ptr& reason) {
  if (timeline_ == nullptr) return;
  std::string why = Summary(reason);
  transcript_.Line("closed: " + why);
  timeline_->Add("agent", "closed", why);
  timeline_ = nullptr;
  session_ = 0;
  std::vector<std::function<void(const std::string&)>> callbacks;
  {
    std::lock_guard lock(mutex_);
    closed_ = reason;
    hello_.reset();
    callbacks = std::exchange(on_closed_, {});
    changed_.notify_all();
  }
  boost::system::error_code ignored;
  listener_.close(ignored);
  socket_.close(ignored);
  queue_.clear();
  queued_ = 0;
  EndCalls(reason);
  for (const auto& callback : callbacks) callback(why);
}

Agent::Released AgentConnection::Release() {
  bool listens = listener_.is_open();
  int own = listens ? listener_.native_handle() : socket_.native_handle();
  Agent::Released released{.channel = UniqueFd(fcntl(own, F_DUPFD_CLOEXEC, 3))};
  // A guest that has to connect again begins another session then.
  if (auto said = hello(); said && !listens) {
    released.session = AgentSession{.client = client_, .last_request = next_id_, .hello = std::move(*said)};
  }
  Fail(std::make_exception_ptr(GuestFailed({.summary = fmt::format("'{}': the VM was handed over", options_.name)})));
  return released;
}

void AgentConnection::Queue(std::string frame) {
  if (timeline_ == nullptr) return;
  queued_ += frame.size();
  queue_.push_back(std::move(frame));
  if (writing_.empty()) Write();
}

void AgentConnection::Write() {
  std::vector<boost::asio::const_buffer> buffers;
  while (!queue_.empty() && writing_.size() < kBuffersAtOnce) {
    writing_.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  if (queue_.empty()) greeting_queued_ = false;
  buffers.reserve(writing_.size());
  for (const std::string& frame : writing_) buffers.push_back(boost::asio::buffer(frame));
  boost::asio::async_write(
      socket_, buffers, [self = shared_from_this(), stream = stream_](const boost::system::error_code& error, size_t) {
        if (self->timeline_ == nullptr || self->stream_ != stream) return;
        for (const std::string& frame : self->writing_) self->queued_ -= frame.size();
        self->writing_.clear();
        // The reader sees the end as well, and tells of it.
        if (error) return;
        if (!self->queue_.empty()) self->Write();
      });
}

void AgentConnection::Log(const PendingCall& call, std::string_view outcome) {
  transcript_.Line(fmt::format("{} -> {} after {}", call.handlers.what, outcome, ForPeople(Clock::now() - call.began)));
}

}  // namespace mayfly::internal
