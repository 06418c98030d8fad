// Commands in the guest, on the host's side.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <mayfly/agent.h>
#include <mayfly/internal/agent_connection.h>
#include <mayfly/internal/blocking_call.h>
#include <mayfly/internal/io_thread.h>

namespace mayfly {

using internal::AgentConnection;
using internal::IoContext;
using internal::RequireBlockingAllowed;
using internal::RunOnIoThread;
using internal::agent::kFrameCost;
using internal::agent::kFromGuest;
using internal::agent::kToGuest;
using internal::agent::kWindow;
using internal::agent::Message;
using internal::agent::MessageWriter;

namespace {

constexpr Duration kGrace = std::chrono::seconds(10);  // for the guest, beyond a timeout that it watches itself
constexpr uint64_t kRetryMilliseconds = 50;
constexpr int64_t kInputPiece = 64 << 10;
constexpr size_t kShownCommand = 120;

uint64_t Milliseconds(Duration duration) {
  auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return count < 1 ? 1 : static_cast<uint64_t>(count);
}

// What the guest shall run, in the form of the protocol.
struct Program {
  const Command& command;
  const std::map<std::string, std::string>& environment;
  const std::string& user;
  const std::string& working_directory;
};

void CheckWord(std::string_view what, std::string_view word) {
  if (word.find('\0') == std::string_view::npos) return;
  throw BadSpec({.summary = fmt::format("{} has a zero byte, which no program can be given", what),
                 .notes = {},
                 .next_step = {}});
}

MessageWriter ExecRequest(const Program& program, std::string* body) {
  if (program.command.argv().empty()) {
    throw BadSpec({.summary = "a command without words", .notes = {}, .next_step = "give at least the program"});
  }
  for (const std::string& word : program.command.argv()) {
    CheckWord("a word of the command", word);
    body->append(word).push_back('\0');
  }
  for (const auto& [name, value] : program.environment) {
    if (name.empty() || name.find('=') != std::string::npos) {
      throw BadSpec(
          {.summary = fmt::format("'{}' is no name of an environment variable", name), .notes = {}, .next_step = {}});
    }
    CheckWord("an environment variable", name + value);
    body->append(name).append("=").append(value).push_back('\0');
  }
  MessageWriter request("exec");
  request.Set("argc", uint64_t{program.command.argv().size()});
  if (!program.user.empty()) request.Set("user", program.user);
  if (!program.working_directory.empty()) request.Set("cwd", program.working_directory);
  return request;
}

std::string Shown(const Command& command) {
  return command.text().size() <= kShownCommand ? command.text() : command.text().substr(0, kShownCommand) + "…";
}

}  // namespace

// The state of one command. Filled by the I/O thread, read by any.
class GuestProcess::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::shared_ptr<AgentConnection> connection, const Command& command, Bytes max_output,
       std::function<void(Stream, std::string_view)> on_output)
      : connection_(std::move(connection)),
        command_(Shown(command)),
        what_("run `" + command_ + "`"),
        max_output_(max_output.count()),
        on_output_(std::move(on_output)) {}

  void Begin(MessageWriter request, std::string_view body) {
    RequireBlockingAllowed(what_);
    began_ = Clock::now();
    RunOnIoThread([&] {
      id_ = connection_->Call(
          std::move(request), body,
          {.what = what_,
           .on_message = [self = shared_from_this()](const Message& message, std::string_view,
                                                     std::string_view bytes) { self->OnMessage(message, bytes); },
           .on_failed = [self = shared_from_this()](std::exception_ptr reason) { self->OnFailed(std::move(reason)); }});
    });
  }

  void WaitUntilStarted(Deadline deadline) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline.time(), [this] { return pid_ >= 0 || ended_; })) {
      throw Timeout(
          {.summary = connection_->Cannot(what_, "the guest has not answered in time"), .notes = {}, .next_step = {}});
    }
    if (pid_ < 0 && failed_ != nullptr) std::rethrow_exception(failed_);
  }

  ExecResult Wait(Deadline deadline, Duration allowed) {
    RequireBlockingAllowed(what_);
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline.time(), [this] { return ended_; })) {
      throw Timeout({.summary = connection_->Cannot("wait for the end of `" + command_ + "`",
                                                    "it still runs after " + ForPeople(allowed)),
                     .notes = {Tails()},
                     .next_step = {}});
    }
    if (failed_ != nullptr) std::rethrow_exception(failed_);
    return result_;
  }

  // The result of the last try of a repeated command, which failed.
  std::optional<ExecResult> last_try() const {
    std::lock_guard lock(mutex_);
    return last_try_;
  }

  void WaitForOutput(std::string_view text, Duration timeout) {
    RequireBlockingAllowed(what_);
    std::unique_lock lock(mutex_);
    size_t out_from = 0, err_from = 0;
    // Each look begins where a match could not have begun before.
    auto grown = [&text](const std::string& stream, size_t& from) {
      bool found = stream.find(text, from) != std::string::npos;
      from = stream.size() < text.size() ? 0 : stream.size() - text.size();
      return found;
    };
    bool found = false;
    auto done = [&] { return (found = grown(result_.out, out_from) || grown(result_.err, err_from)) || ended_; };
    bool in_time = changed_.wait_until(lock, Deadline::After(timeout).time(), done);
    if (found) return;
    std::string what = fmt::format("find '{}' in the output of `{}`", text, command_);
    if (!in_time)
      throw Timeout({.summary = connection_->Cannot(what, "not within " + ForPeople(timeout)),
                     .notes = {Tails()},
                     .next_step = {}});
    if (failed_ != nullptr) std::rethrow_exception(failed_);
    throw GuestFailed(
        {.summary = connection_->Cannot(what, "it has ended: " + result_.ToString()), .notes = {}, .next_step = {}});
  }

  void WriteStdin(std::string_view bytes, Deadline deadline = Deadline::Never()) {
    while (!bytes.empty()) {
      size_t size = 0;
      {
        std::unique_lock lock(mutex_);
        auto ready = [this] { return credit_ > kFrameCost || ended_ || input_closed_; };
        if (!changed_.wait_until(lock, deadline.time(), ready)) {
          throw Timeout({.summary = connection_->Cannot("write to `" + command_ + "`", "it does not read"),
                         .notes = {},
                         .next_step = {}});
        }
        if (failed_ != nullptr) std::rethrow_exception(failed_);
        if (ended_ || input_closed_) {
          throw GuestFailed({.summary = connection_->Cannot("write to `" + command_ + "`",
                                                            ended_ ? "it has ended" : "it has closed its input"),
                             .notes = {Tails()},
                             .next_step = {}});
        }
        size = std::min(bytes.size(), static_cast<size_t>(std::min(credit_ - kFrameCost, kInputPiece)));
        credit_ -= static_cast<int64_t>(size) + kFrameCost;
      }
      MessageWriter message("data");
      message.Set("st", kToGuest);
      Post(std::move(message), std::string(bytes.substr(0, size)));
      bytes.remove_prefix(size);
    }
  }

  // All of an Exec's input. A command that reads only a part of it is no failure.
  void FeedAndClose(std::string_view input, Deadline deadline) {
    try {
      WriteStdin(input, deadline);
      CloseStdin();
    } catch (const GuestFailed&) {
      std::lock_guard lock(mutex_);
      if (failed_ != nullptr) throw;
    }
  }

  void CloseStdin() {
    MessageWriter message("eof");
    message.Set("st", kToGuest);
    Post(std::move(message));
  }

  void Post(MessageWriter message, std::string body = {}) {
    boost::asio::post(IoContext(), [self = shared_from_this(), message = std::move(message), body = std::move(body)] {
      self->connection_->Send(self->id_, message, body);
    });
  }

  // Ends the command. No callback of it runs any more when this returns.
  void Cancel() {
    if (!running()) return;
    RunOnIoThread([this] { connection_->Cancel(id_); });
  }

  int64_t pid() const {
    std::lock_guard lock(mutex_);
    return pid_;
  }
  std::string out() const {
    std::lock_guard lock(mutex_);
    return result_.out;
  }
  std::string err() const {
    std::lock_guard lock(mutex_);
    return result_.err;
  }
  bool running() const {
    std::lock_guard lock(mutex_);
    return !ended_;
  }

  // Calls `operation`; when it fails because the guest went away, whoever holds the VM may say why.
  template <typename Operation>
  auto Explained(Operation operation) -> decltype(operation()) {
    try {
      return operation();
    } catch (const GuestFailed& error) {
      connection_->Explain(error);
      throw;
    }
  }

 private:
  void OnMessage(const Message& message, std::string_view body) {
    std::string_view type = message.type();
    if (type == "data") return OnData(message, body);
    std::lock_guard lock(mutex_);
    if (type == "started") {
      pid_ = message.Signed("pid", 0);
    } else if (type == "credit") {
      credit_ = std::min(kWindow, credit_ + static_cast<int64_t>(std::min<uint64_t>(message.Number("n"), kWindow)));
    } else if (type == "eof") {
      input_closed_ = true;
    } else if (type == "again") {
      SetStatus(message);
      last_try_ = std::exchange(result_, ExecResult{});
    } else if (type == "exit") {
      SetStatus(message);
      ended_ = true;
    } else if (type == "error") {
      failed_ = std::make_exception_ptr(connection_->Refusal(what_, message));
      ended_ = true;
    } else {
      connection_->ThrowProtocolError("an unknown message for a command");
    }
    changed_.notify_all();
  }

  void OnData(const Message& message, std::string_view body) {
    auto stream = static_cast<int>(message.Number("st"));
    connection_->GiveBack(id_, stream, static_cast<int64_t>(body.size()) + kFrameCost);
    if (on_output_) return on_output_(stream == kFromGuest ? Stream::kOut : Stream::kErr, body);
    std::lock_guard lock(mutex_);
    std::string& kept = stream == kFromGuest ? result_.out : result_.err;
    size_t room = max_output_ > kept.size() ? max_output_ - kept.size() : 0;
    kept.append(body.substr(0, room));
    result_.dropped += body.size() - std::min(room, body.size());
    changed_.notify_all();
  }

  void OnFailed(std::exception_ptr reason) {
    std::lock_guard lock(mutex_);
    failed_ = std::move(reason);
    ended_ = true;
    changed_.notify_all();
  }

  void SetStatus(const Message& message) {
    result_.command = command_;
    result_.exit_code = static_cast<int>(message.Signed("code"));
    result_.signal = static_cast<int>(message.Signed("signal"));
    result_.timed_out = message.Flag("timeout");
    result_.took = Clock::now() - began_;
  }

  std::string Tails() const {
    std::string tail = result_.out.substr(result_.out.size() - std::min<size_t>(result_.out.size(), 1000));
    std::string error_tail = result_.err.substr(result_.err.size() - std::min<size_t>(result_.err.size(), 1000));
    return fmt::format("standard output so far ends with: '{}'\nstandard error: '{}'", tail, error_tail);
  }

  const std::shared_ptr<AgentConnection> connection_;
  const std::string command_;
  const std::string what_;
  const size_t max_output_;
  const std::function<void(Stream, std::string_view)> on_output_;
  uint64_t id_ = 0;  // set before anything else uses it
  Clock::time_point began_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  int64_t pid_ = -1;
  int64_t credit_ = kWindow;
  bool input_closed_ = false;
  bool ended_ = false;
  std::exception_ptr failed_;
  ExecResult result_;
  std::optional<ExecResult> last_try_;
};

GuestProcess::GuestProcess(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
GuestProcess::GuestProcess(GuestProcess&&) noexcept = default;

GuestProcess& GuestProcess::operator=(GuestProcess&& other) noexcept {
  if (this != &other) {
    if (impl_ != nullptr) impl_->Cancel();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

GuestProcess::~GuestProcess() {
  if (impl_ != nullptr) impl_->Cancel();
}

int64_t GuestProcess::pid() const { return impl_->pid(); }

void GuestProcess::WriteStdin(std::string_view bytes) {
  RequireBlockingAllowed("write to a command");
  impl_->Explained([&] { impl_->WriteStdin(bytes); });
}

void GuestProcess::CloseStdin() { impl_->CloseStdin(); }

void GuestProcess::Signal(int signal) {
  MessageWriter message("signal");
  message.Set("signal", signal);
  impl_->Post(std::move(message));
}

void GuestProcess::Resize(uint16_t rows, uint16_t columns) {
  MessageWriter message("resize");
  message.Set("rows", uint64_t{rows}).Set("columns", uint64_t{columns});
  impl_->Post(std::move(message));
}

std::string GuestProcess::out() const { return impl_->out(); }
std::string GuestProcess::err() const { return impl_->err(); }
void GuestProcess::WaitForOutput(std::string_view text, Duration timeout) {
  impl_->Explained([&] { impl_->WaitForOutput(text, timeout); });
}
ExecResult GuestProcess::Wait(Duration timeout) {
  return impl_->Explained([&] { return impl_->Wait(Deadline::After(timeout), timeout); });
}
bool GuestProcess::running() const { return impl_->running(); }

GuestProcess Agent::Start(const Command& command, const StartOptions& options) {
  std::string body;
  MessageWriter request = ExecRequest({command, options.environment, options.user, options.working_directory}, &body);
  request.Set("pid", true);
  if (options.open_stdin || options.terminal) request.Set("stdin", true);
  if (options.terminal) {
    request.Set("pty", true).Set("rows", uint64_t{options.rows}).Set("columns", uint64_t{options.columns});
  }
  auto impl = std::make_shared<GuestProcess::Impl>(connection_, command, options.max_output, options.on_output);
  GuestProcess process(impl);
  impl->Begin(std::move(request), body);
  impl->WaitUntilStarted(Deadline::After(Scaled(std::chrono::seconds(30))));
  return process;
}

ExecResult Agent::Exec(const Command& command, const ExecOptions& options) {
  std::string body;
  MessageWriter request = ExecRequest({command, options.environment, options.user, options.working_directory}, &body);
  if (!options.in.empty()) request.Set("stdin", true);
  Deadline deadline = Deadline::Never();
  if (options.timeout < Duration::max() / 200) {
    Duration timeout = Scaled(options.timeout);
    request.Set("timeout", Milliseconds(timeout));
    deadline = Deadline::After(timeout + Scaled(kGrace));
  }
  auto impl = std::make_shared<GuestProcess::Impl>(connection_, command, options.max_output, nullptr);
  GuestProcess process(impl);  // its destructor ends the command when we leave by an exception
  impl->Begin(std::move(request), body);
  if (!options.in.empty()) impl->FeedAndClose(options.in, deadline);
  return impl->Wait(deadline, options.timeout);
}

ExecResult Agent::WaitUntilSucceeds(const Command& command, Duration timeout) {
  std::string body;
  MessageWriter request = ExecRequest({command, {}, {}, {}}, &body);
  request.Set("again", kRetryMilliseconds).Set("timeout", Milliseconds(timeout));
  auto impl = std::make_shared<GuestProcess::Impl>(connection_, command, Bytes(1 << 20), nullptr);
  GuestProcess process(impl);
  impl->Begin(std::move(request), body);
  ExecResult result = impl->Wait(Deadline::After(timeout + Scaled(kGrace)), timeout);
  if (result.ok()) return result;
  ExecResult last = impl->last_try().value_or(result);
  throw Timeout({.summary = connection_->Cannot("wait until `" + Shown(command) + "` succeeds",
                                                "not within " + ForPeople(timeout)),
                 .notes = {"the last try: " + last.ToString()},
                 .next_step = {}});
}

}  // namespace mayfly
