// Commands: one process group each, with its streams under flow control.
//
// When the command has ended, what its pipes still hold is sent. If a process that it left behind keeps a pipe open
// (`kv --daemon`), the end is reported kLingering later all the same; what that process writes afterwards is read and
// thrown away, so that it is neither blocked nor killed by SIGPIPE. On a terminal it is hung up, as when a terminal is
// closed.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "operations.h"
#include "spawn.h"

namespace mayfly::agent {

using internal::agent::kFrameCost;
using internal::agent::kFromGuest;
using internal::agent::kStandardError;
using internal::agent::kStreams;
using internal::agent::kToGuest;
using internal::agent::kWindow;

namespace {

constexpr Milliseconds kLingering(25);
constexpr size_t kPipePiece = 64 << 10;  // what a pipe holds

// The words of a frame's body, each ended by a NUL.
std::vector<const char*> Words(const std::string& body) {
  std::vector<const char*> words;
  for (size_t start = 0; start < body.size(); start += strlen(&body[start]) + 1) words.push_back(&body[start]);
  return words;
}

// Reads and forgets what arrives on `fd` until its writers are gone.
void ThrowAway(Loop& loop, UniqueFd fd) {
  int number = fd.get();
  auto kept = std::make_shared<UniqueFd>(std::move(fd));
  loop.Watch(number, EPOLLIN, [&loop, kept](uint32_t) {
    char buffer[4096];
    ssize_t count = read(kept->get(), buffer, sizeof buffer);
    if (count > 0 || (count < 0 && errno == EAGAIN)) return;
    // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): Forget destroys this function, and `kept` with it.
    std::shared_ptr<UniqueFd> last = kept;
    loop.Forget(last->get());
  });
}

class Exec : public Request {
 public:
  using Request::Request;
  ~Exec() override;
  void Begin(const Message& message, std::string_view body);
  void Take(const Message& message, std::string_view body) override;
  void Resume() override { PumpAll(); }

 private:
  struct Output {
    UniqueFd fd;
    int64_t credit = kWindow;
    bool watched = false;
    bool open = false;
  };

  void Run();
  bool OpenStreams(int child[3]);
  bool OpenTerminal(int child[3]);
  void Pump(int stream);
  void PumpAll();
  void Watch(int stream, bool wanted);
  void CloseOutput(int stream);
  void OnExit(int status);
  void TryToEnd();
  void End();
  void OnTimeout();
  void FeedInput();
  void CloseInput();
  void SetStatus(MessageWriter& message) const;

  // What to run.
  std::string words_;  // argv and environment as they came
  size_t argc_ = 0;
  std::optional<User> user_;
  std::string directory_;
  uint16_t rows_ = 24, columns_ = 80;
  bool wants_input_ = false;
  bool terminal_ = false;
  bool report_pid_ = false;
  Milliseconds again_{0};

  // How it runs.
  pid_t pid_ = -1;  // -1: not running
  int status_ = 0;  // of wait(2), once it has ended
  bool ended_ = false;
  bool lingered_ = false;
  bool timed_out_ = false;
  Loop::TimerId timeout_ = 0, lingering_ = 0, retry_ = 0;
  std::array<Output, kStreams> outputs_;  // [0] is not used
  UniqueFd input_;
  std::string pending_input_;
  bool input_ended_ = false;
  bool input_watched_ = false;
};

Exec::~Exec() {
  for (Loop::TimerId* timer : {&timeout_, &lingering_, &retry_}) server_.loop().Cancel(*timer);
  for (Output& output : outputs_) server_.loop().Forget(output.fd.get());
  CloseInput();
  if (pid_ > 0) {
    server_.loop().ForgetChild(pid_);
    kill(-pid_, SIGKILL);
  }
}

void Exec::Begin(const Message& message, std::string_view body) {
  words_ = body;
  if (words_.empty() || words_.back() != '\0') return Fail(EINVAL, "exec");
  argc_ = message.Number("argc");
  size_t words = Words(words_).size();
  if (argc_ == 0 || argc_ > words) return Fail(EINVAL, "exec");
  std::string_view user = message.Text("user");
  if (!user.empty()) {
    user_ = FindUser(user);
    if (!user_) return Fail(ENOENT, "there is no user '" + std::string(user) + "' in the guest's /etc/passwd");
  }
  directory_ = message.Text("cwd").empty() ? "/" : message.Text("cwd");
  rows_ = static_cast<uint16_t>(message.Number("rows", 24));
  columns_ = static_cast<uint16_t>(message.Number("columns", 80));
  wants_input_ = message.Flag("stdin");
  terminal_ = message.Flag("pty");
  report_pid_ = message.Flag("pid");
  again_ = Milliseconds(message.Number("again"));
  if (uint64_t timeout = message.Number("timeout")) {
    timeout_ = server_.loop().After(Milliseconds(std::min<uint64_t>(timeout, INT64_MAX / 2'000'000)), [this] {
      timeout_ = 0;
      OnTimeout();
    });
  }
  Run();
}

void Exec::Run() {
  int child[3] = {-1, -1, -1};
  if (!(terminal_ ? OpenTerminal(child) : OpenStreams(child))) return Fail(errno, "cannot open the command's streams");
  SpawnOptions options;
  options.argv = Words(words_);
  std::vector<const char*> given(options.argv.begin() + static_cast<ptrdiff_t>(argc_), options.argv.end());
  options.argv.resize(argc_);
  std::vector<std::string> defaults;
  auto add_default = [&](std::string_view name, std::string_view value) {
    for (std::string_view variable : given) {
      if (variable.starts_with(name) && variable.substr(name.size()).starts_with('=')) return;
    }
    defaults.push_back(std::string(name) + "=" + std::string(value));
  };
  add_default("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  add_default("HOME", user_ ? user_->home : "/root");
  add_default("USER", user_ ? user_->name : "root");
  add_default("LOGNAME", user_ ? user_->name : "root");
  add_default("LANG", "C.UTF-8");
  if (terminal_) add_default("TERM", "xterm-256color");
  options.environment = given;
  for (const std::string& variable : defaults) options.environment.push_back(variable.c_str());
  std::copy(child, child + 3, options.fds);
  options.directory = directory_;
  options.user = user_ ? &*user_ : nullptr;
  options.terminal = terminal_;

  ended_ = lingered_ = false;
  SpawnResult result = Spawn(options);
  std::sort(child, child + 3);
  for (int* fd = child; fd != std::unique(child, child + 3); ++fd) close(*fd);
  std::string_view step = result.step;
  if (result.error != 0 && again_.count() > 0 && step == "exec") {
    // It may be there next time. What a shell says of a command that it cannot find:
    status_ = 127 << 8;
    ended_ = true;
    return End();
  }
  if (result.error != 0) {
    std::string what = step == "chdir"  ? "working directory " + directory_
                       : step == "exec" ? std::string(options.argv[0])
                                        : std::string(step);
    return Fail(result.error, what);
  }
  pid_ = result.pid;
  server_.loop().AwaitChild(pid_, [this](int status) { OnExit(status); });
  if (report_pid_) Send(Reply("started").Set("pid", int64_t{pid_}));
  for (int stream : {kFromGuest, kStandardError}) Watch(stream, true);
  FeedInput();
}

bool Exec::OpenStreams(int child[3]) {
  int ends[2];
  for (int stream : {kFromGuest, kStandardError}) {
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    child[stream] = ends[1];
    outputs_[static_cast<size_t>(stream)].fd.Reset(ends[0]);
    outputs_[static_cast<size_t>(stream)].open = true;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
  }
  if (!wants_input_) {
    child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return child[0] >= 0;
  }
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  child[0] = ends[0];
  input_.Reset(ends[1]);
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  return true;
}

bool Exec::OpenTerminal(int child[3]) {
  UniqueFd master(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  int unlock = 0;
  if (!master || ioctl(master.get(), TIOCSPTLCK, &unlock) != 0) return false;
  winsize size{.ws_row = rows_, .ws_col = columns_, .ws_xpixel = 0, .ws_ypixel = 0};
  ioctl(master.get(), TIOCSWINSZ, &size);
  int slave = ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return false;
  child[0] = child[1] = child[2] = slave;
  input_.Reset(fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
  outputs_[kFromGuest].fd = std::move(master);
  outputs_[kFromGuest].open = true;
  return static_cast<bool>(input_);
}

void Exec::Watch(int stream, bool wanted) {
  Output& output = outputs_[static_cast<size_t>(stream)];
  if (!output.open || output.watched == wanted) return;
  output.watched = wanted;
  // Not watched at all while it may not be read: a hang-up is reported whatever is asked for.
  if (!wanted) return server_.loop().Forget(output.fd.get());
  server_.loop().Watch(output.fd.get(), EPOLLIN, [this, stream](uint32_t) { Pump(stream); });
}

// Sends what the pipe holds, as far as credit and channel allow.
void Exec::Pump(int stream) {
  Output& output = outputs_[static_cast<size_t>(stream)];
  while (output.open) {
    int64_t allowed = output.credit - kFrameCost;
    if (allowed <= 0 || server_.channel().congested()) return Watch(stream, false);
    auto room = static_cast<size_t>(std::min<int64_t>(allowed, kPipePiece));
    std::string header = Reply("data").Set("st", stream).Finish();
    std::span<char> space = server_.channel().Begin(header, room);
    ssize_t count = read(output.fd.get(), space.data(), space.size());
    if (count > 0) {
      server_.channel().Commit(static_cast<size_t>(count));
      output.credit -= count + kFrameCost;
      // While it runs, one piece a turn: other streams and the channel come next. A short read emptied the pipe.
      if (!ended_) break;
      continue;
    }
    server_.channel().Abandon();
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
    CloseOutput(stream);  // end of file; EIO on a terminal that nobody has open any more
    if (ended_) TryToEnd();
    return;
  }
  Watch(stream, true);
}

void Exec::PumpAll() {
  for (int stream : {kFromGuest, kStandardError}) Pump(stream);
  if (ended_) TryToEnd();
}

void Exec::CloseOutput(int stream) {
  Output& output = outputs_[static_cast<size_t>(stream)];
  server_.loop().Forget(output.fd.get());
  output.fd.Reset();
  output.open = output.watched = false;
}

void Exec::OnExit(int status) {
  pid_ = -1;
  status_ = status;
  ended_ = true;
  PumpAll();
}

// The end is told when all output is sent, or when what is left belongs to others.
void Exec::TryToEnd() {
  if (!ended_ || finished() || retry_ != 0) return;
  bool held_up = false, open = false;
  for (const Output& output : outputs_) {
    open = open || output.open;
    held_up = held_up || (output.open && !output.watched);  // the host has to read first
  }
  if (held_up) return;
  if (!open || lingered_) return End();
  if (lingering_ != 0) return;
  lingering_ = server_.loop().After(kLingering, [this] {
    lingering_ = 0;
    lingered_ = true;
    PumpAll();
  });
}

void Exec::End() {
  server_.loop().Cancel(lingering_);
  for (int stream : {kFromGuest, kStandardError}) {
    Output& output = outputs_[static_cast<size_t>(stream)];
    if (!output.open) continue;
    server_.loop().Forget(output.fd.get());
    output.open = output.watched = false;
    if (!terminal_) ThrowAway(server_.loop(), std::move(output.fd));
    output.fd.Reset();
  }
  CloseInput();
  if (again_.count() > 0 && !timed_out_ && status_ != 0) {
    MessageWriter message = Reply("again");
    SetStatus(message);
    Send(std::move(message));
    retry_ = server_.loop().After(again_, [this] {
      retry_ = 0;
      Run();
    });
    return;
  }
  MessageWriter message = Reply("exit");
  SetStatus(message);
  Send(std::move(message));
  Finish();
}

void Exec::SetStatus(MessageWriter& message) const {
  if (WIFSIGNALED(status_)) {
    message.Set("signal", WTERMSIG(status_));
  } else {
    message.Set("code", WEXITSTATUS(status_));
  }
  if (timed_out_) message.Set("timeout", true);
}

void Exec::OnTimeout() {
  timed_out_ = true;
  if (pid_ > 0) {
    kill(-pid_, SIGKILL);  // OnExit follows
  } else if (retry_ != 0) {
    server_.loop().Cancel(retry_);
    End();
  }
}

void Exec::Take(const Message& message, std::string_view body) {
  std::string_view type = message.type();
  auto stream = message.Number("st", kStreams);
  if (type == "credit" && (stream == kFromGuest || stream == kStandardError)) {
    outputs_[stream].credit += static_cast<int64_t>(std::min<uint64_t>(message.Number("n"), kWindow));
    outputs_[stream].credit = std::min(outputs_[stream].credit, kWindow);
    Pump(static_cast<int>(stream));
    if (ended_) TryToEnd();
  } else if (type == "data" && stream == kToGuest) {
    if (!input_) return;
    if (pending_input_.size() + body.size() > static_cast<size_t>(kWindow))
      return Fail(EPROTO, "more input than credit");
    pending_input_ += body;
    GiveBack(kToGuest, kFrameCost, kWindow);
    FeedInput();
  } else if (type == "eof" && stream == kToGuest) {
    input_ended_ = true;
    FeedInput();
  } else if (type == "signal") {
    if (pid_ > 0) kill(-pid_, static_cast<int>(message.Number("signal")));
  } else if (type == "resize" && terminal_) {
    winsize size{.ws_row = static_cast<uint16_t>(message.Number("rows")),
                 .ws_col = static_cast<uint16_t>(message.Number("columns")),
                 .ws_xpixel = 0,
                 .ws_ypixel = 0};
    ioctl(input_.get(), TIOCSWINSZ, &size);
  }
}

void Exec::FeedInput() {
  if (!input_) return;
  if (input_ended_ && terminal_ && pending_input_.empty()) {
    pending_input_ = '\4';  // ^D: end of file, typed
    input_ended_ = false;
  }
  size_t written = 0;
  while (written < pending_input_.size()) {
    ssize_t count = write(input_.get(), pending_input_.data() + written, pending_input_.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {  // the command has closed it
      CloseInput();
      return Send(Reply("eof").Set("st", kToGuest));
    }
    written += static_cast<size_t>(count);
  }
  pending_input_.erase(0, written);
  if (written > 0) GiveBack(kToGuest, static_cast<int64_t>(written), kWindow);
  if (pending_input_.empty() && input_ended_) return CloseInput();
  bool wanted = !pending_input_.empty();
  if (wanted == input_watched_) return;
  input_watched_ = wanted;
  if (!wanted) return server_.loop().Forget(input_.get());
  server_.loop().Watch(input_.get(), EPOLLOUT, [this](uint32_t) { FeedInput(); });
}

void Exec::CloseInput() {
  if (input_watched_) server_.loop().Forget(input_.get());
  input_watched_ = false;
  input_.Reset();
  pending_input_.clear();
}

}  // namespace

std::unique_ptr<Request> StartExec(Server& server, uint64_t id, const Message& message, std::string_view body) {
  auto exec = std::make_unique<Exec>(server, id);
  exec->Begin(message, body);
  return exec;
}

}  // namespace mayfly::agent
