#include "drivers/ch/vmm_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/log_tail.h>
#include <mayfly/internal/served_process.h>
#include <mayfly/internal/unix_listener.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <system_error>
#include <utility>

namespace mayfly::ch {
namespace {

using boost::asio::posix::stream_descriptor;
using internal::RunOnIoThread;
using internal::UniqueFd;

// The descriptors that the VMM inherits.
constexpr int kApiDescriptor = 3;
constexpr int kEventDescriptor = 4;
// It never waits for its events to be read, and drops what finds no room.
constexpr int kEventRoom = 1 << 20;

}  // namespace

// Reads events and waits for the process's end on the I/O thread, where all of its state belongs.
class VmmProcess::Watch : public std::enable_shared_from_this<Watch> {
 public:
  Watch(internal::Process& child, Options options, uint64_t log_begin, UniqueFd events, std::string received)
      : child_(&child),
        agent_(options.agent_listener < 0 ? -1 : fcntl(options.agent_listener, F_DUPFD_CLOEXEC, 3)),
        log_(options.log),
        log_begin_(log_begin),
        on_event_(std::move(options.on_event)),
        on_exit_(std::move(options.on_exit)),
        received_(std::move(received)),
        events_(internal::IoContext(), events.Release()),
        exited_(internal::IoContext(), fcntl(child.pidfd(), F_DUPFD_CLOEXEC, 3)) {
    events_.non_blocking(true);
  }

  void Start() {
    Read(received_);
    Listen();
    exited_.async_wait(stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (!error) self->Exited();
                       });
  }

  void Exited() {
    if (child_ == nullptr || told_) return;
    auto status = child_->Poll();
    if (!status) return;
    ReadEvents();
    told_ = true;
    boost::system::error_code ignored;
    exited_.close(ignored);
    events_.close(ignored);
    if (on_exit_) on_exit_({.status = *status, .last_words = LastWords()});
    if (agent_) shutdown(agent_.get(), SHUT_RDWR);
  }

  void Abandon() {
    Forget();
    if (agent_) shutdown(agent_.get(), SHUT_RDWR);
  }

  // The same, for a VMM that goes on: whoever watches it next gets the pipe and what has come of an event. The agent is
  // still awaited.
  std::pair<UniqueFd, std::string> Release() {
    std::pair<UniqueFd, std::string> rest(UniqueFd(fcntl(events_.native_handle(), F_DUPFD_CLOEXEC, 3)),
                                          stream_.unfinished());
    Forget();
    agent_.Reset();
    return rest;
  }

  std::vector<std::string> LastWords() const { return internal::LastLines(log_, log_begin_); }

 private:
  void Forget() {
    child_ = nullptr;
    on_event_ = nullptr;
    on_exit_ = nullptr;
    boost::system::error_code ignored;
    exited_.close(ignored);
    events_.close(ignored);
  }

  void Listen() {
    events_.async_wait(stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (!error && self->ReadEvents()) self->Listen();
                       });
  }

  // False at the end.
  bool ReadEvents() {
    std::array<char, 8192> bytes{};
    while (events_.is_open()) {
      ssize_t count = read(events_.native_handle(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return count < 0 && errno == EAGAIN;
      Read({bytes.data(), static_cast<size_t>(count)});
    }
    return false;
  }

  void Read(std::string_view bytes) {
    for (const VmmEvent& event : stream_.Feed(bytes)) {
      if (on_event_) on_event_(event);
    }
  }

  internal::Process* child_;
  UniqueFd agent_;
  const std::filesystem::path log_;
  const uint64_t log_begin_;  // how much of the log earlier runs wrote
  std::function<void(const VmmEvent&)> on_event_;
  std::function<void(const VmmExit&)> on_exit_;
  EventStream stream_;
  const std::string received_;  // by whoever watched it before
  stream_descriptor events_;
  stream_descriptor exited_;
  bool told_ = false;
};

VmmProcess::VmmProcess(const Sandbox& sandbox, Options options) {
  UniqueFd listener = internal::ListenOn(sandbox.Path(kApiSocket), kClientsWaiting);
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw HostLacks(
        {.summary = fmt::format("cannot make a pipe for events: {}", std::generic_category().message(errno)),
         .next_step = "raise the limit of open files (ulimit -n)"});
  }
  UniqueFd events(ends[0]);
  UniqueFd written(ends[1]);
  fcntl(events.get(), F_SETPIPE_SZ, kEventRoom);
  const uint64_t log_begin = internal::SizeOfFile(options.log);
  std::vector<std::string> words = {options.program.path.string(), "--api-socket", fmt::format("fd={}", kApiDescriptor),
                                    "--event-monitor", fmt::format("fd={}", kEventDescriptor)};
  if (options.program.major >= kVersionWithNoShutdown) words.emplace_back("--no-shutdown");
  std::vector<std::pair<std::string, std::string>> environment;
  if (!options.preload.empty()) environment.emplace_back("LD_PRELOAD", options.preload);
  child_ = sandbox.Start({.argv = std::move(words),
                          .stdin_path = options.standard_input,
                          .stdout_path = options.console,
                          .stderr_path = options.log,
                          .inherit = {{listener.get(), kApiDescriptor}, {written.get(), kEventDescriptor}},
                          .environment = std::move(environment),
                          .working_directory = sandbox.directory(),
                          .grace = Duration::zero()});
  if (!options.servers.empty()) {
    child_ = std::make_unique<internal::ServedProcess>(std::move(child_), std::move(options.servers));
  }
  Attach(sandbox, std::move(options), log_begin, std::move(events), {});
}

VmmProcess::VmmProcess(const Sandbox& sandbox, Running running, Options options) : child_(std::move(running.child)) {
  const uint64_t log_begin = internal::SizeOfFile(options.log);
  Attach(sandbox, std::move(options), log_begin, std::move(running.events), std::move(running.received));
}

void VmmProcess::Attach(const Sandbox& sandbox, Options options, uint64_t log_begin, UniqueFd events,
                        std::string received) {
  api_ = std::make_unique<Api>(Api::Options{.socket = sandbox.Path(kApiSocket), .pidfd = child_->pidfd()});
  watch_ = std::make_shared<Watch>(*child_, std::move(options), log_begin, std::move(events), std::move(received));
  RunOnIoThread([&] { watch_->Start(); });
}

VmmProcess::~VmmProcess() {
  RunOnIoThread([&] { watch_->Abandon(); });
}

VmmProcess::Running VmmProcess::Release() {
  auto [events, received] = RunOnIoThread([&] { return watch_->Release(); });
  return {.child = std::move(child_), .events = std::move(events), .received = std::move(received)};
}

void VmmProcess::Kill() {
  child_->Kill();
  RunOnIoThread([&] { watch_->Exited(); });
}

bool VmmProcess::WaitForExit(Deadline deadline) {
  try {
    child_->Wait(deadline);
  } catch (const Timeout&) {
    return false;
  }
  RunOnIoThread([&] { watch_->Exited(); });
  return true;
}

std::vector<std::string> VmmProcess::LastWords() const { return watch_->LastWords(); }

}  // namespace mayfly::ch
