#include "cli/guest_streams.h"

#include <fcntl.h>
#include <limits.h>
#include <mayfly/errors.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include "cli/terminal.h"

namespace mayfly::cli {
namespace {

using internal::UniqueFd;

constexpr size_t kPiece = 64 << 10;

std::pair<UniqueFd, UniqueFd> Pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    throw HostLacks({.summary = "cannot make a pipe: " + std::generic_category().message(errno),
                     .next_step = "raise the limit of open files (ulimit -n)"});
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Blocks until `fd` is ready for `events` or, if it is given, `other` is readable. False: `other` is.
bool Await(int fd, short events, int other = -1) {
  pollfd fds[] = {{fd, events, 0}, {other, POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  return fds[1].revents == 0;
}

// Writes until all is written or `stopped` is readable. Returns errno, or 0. No write blocks: the descriptor's flags
// are shared with other processes and stay as they are, but what poll(2) calls writable takes PIPE_BUF bytes at once.
int WriteAll(int fd, std::string_view bytes, int stopped) {
  while (!bytes.empty() && Await(fd, POLLOUT, stopped)) {
    ssize_t count = write(fd, bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
    if (count >= 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR && errno != EAGAIN) {
      return errno;
    }
  }
  return 0;
}

std::atomic<int> window_changed{-1};

void NoteWindowChange(int /*signal*/) {
  int error = errno;
  [[maybe_unused]] ssize_t written = write(window_changed, "w", 1);
  errno = error;
}

void Drain(int fd) {
  char buffer[64];
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
}

}  // namespace

OutputStreams::OutputStreams() {
  std::tie(failed_, fail_) = Pipe();
  std::tie(stopped_, stop_) = Pipe();
}

void OutputStreams::Write(Stream stream, std::string_view bytes) {
  if (failure_ != 0) return;
  int error = WriteAll(stream == Stream::kOut ? STDOUT_FILENO : STDERR_FILENO, bytes, stopped_.get());
  if (error == 0) return;
  failure_ = error;
  fail_.Reset();
}

InputStreams::InputStreams(GuestProcess& process, const OutputStreams& output, Options options) : process_(process) {
  std::tie(stopped_, stop_) = Pipe();
  if (options.window_size) {
    UniqueFd changed;
    std::tie(window_, changed) = Pipe();
    window_changed = changed.Release();  // stays open: a late signal may write to it
    struct sigaction action{};
    action.sa_handler = NoteWindowChange;
    action.sa_flags = SA_RESTART;
    sigaction(SIGWINCH, &action, nullptr);
    NoteWindowChange(SIGWINCH);  // what changed since the size was read
  }
  watcher_ = std::thread([this, fd = output.failed_fd()] { Watch(fd); });
  if (options.standard_input) feeder_ = std::thread([this] { Feed(); });
}

InputStreams::~InputStreams() { Stop(); }

void InputStreams::Stop() {
  stop_.Reset();
  if (watcher_.joinable()) watcher_.join();
  if (feeder_.joinable()) feeder_.join();
}

void InputStreams::Feed() {
  std::string buffer(kPiece, '\0');
  try {
    while (Await(STDIN_FILENO, POLLIN, stopped_.get())) {
      ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
      if (count > 0) {
        process_.WriteStdin(std::string_view(buffer.data(), static_cast<size_t>(count)));
      } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
        process_.CloseStdin();
        return;
      }
    }
  } catch (const Error&) {
    // The command reads no more, or went away with its machine: Wait tells.
  }
}

void InputStreams::Watch(int failed_fd) {
  pollfd fds[] = {{stopped_.get(), POLLIN, 0}, {failed_fd, POLLIN, 0}, {window_.get(), POLLIN, 0}};
  try {
    while (true) {
      if (poll(fds, 3, -1) < 0) continue;
      if (fds[0].revents != 0) return;
      if (fds[1].revents != 0) {
        process_.Signal(SIGKILL);
        fds[1].fd = -1;
      }
      if (fds[2].revents != 0) {
        Drain(window_.get());
        TerminalSize size = SizeOfTerminal(STDIN_FILENO);
        process_.Resize(size.rows, size.columns);
      }
    }
  } catch (const Error&) {
    // As in Feed.
  }
}

}  // namespace mayfly::cli
