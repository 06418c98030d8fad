#include "cli/terminal.h"

#include <mayfly/errors.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <system_error>

namespace mayfly::cli {
namespace {

constexpr std::array kFaults = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGQUIT};

// One terminal a process, so that a signal handler finds it. `saved` is written before `raw_fd` tells of it.
std::mutex mutex;
bool over = false;
termios saved{};
std::atomic<int> raw_fd{-1};
std::array<struct sigaction, kFaults.size()> earlier{};

void PutBack() noexcept {
  int fd = raw_fd.exchange(-1);
  if (fd < 0) return;
  std::signal(SIGTTOU, SIG_IGN);  // or a process in the background would be stopped here
  tcsetattr(fd, TCSAFLUSH, &saved);
}

// Async-signal-safe. The fault happens again under the earlier action.
void PutBackAndGoOn(int signal) {
  PutBack();
  for (size_t i = 0; i < kFaults.size(); ++i) {
    if (kFaults[i] == signal) sigaction(signal, &earlier[i], nullptr);
  }
  raise(signal);
}

}  // namespace

RawTerminal::RawTerminal(int fd) {
  std::lock_guard lock(mutex);
  if (over) return;
  if (tcgetattr(fd, &saved) != 0) {
    throw HostLacks({.summary = "cannot use this terminal: " + std::generic_category().message(errno)});
  }
  for (size_t i = 0; i < kFaults.size(); ++i) {
    struct sigaction action{};
    action.sa_handler = PutBackAndGoOn;
    sigaction(kFaults[i], &action, &earlier[i]);
  }
  raw_fd = fd;
  termios raw = saved;
  cfmakeraw(&raw);
  tcsetattr(fd, TCSAFLUSH, &raw);
}

RawTerminal::~RawTerminal() {
  std::lock_guard lock(mutex);
  PutBack();
}

void RestoreTerminal() noexcept {
  std::lock_guard lock(mutex);
  over = true;
  PutBack();
}

TerminalSize SizeOfTerminal(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return {};
  return {.rows = size.ws_row, .columns = size.ws_col};
}

}  // namespace mayfly::cli
