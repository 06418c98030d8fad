#include <mayfly/internal/process.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <poll.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace mayfly::internal {

std::string ExitStatus::ToString() const {
  if (signal == 0) return fmt::format("exit code {}", code);
  const char* name = sigabbrev_np(signal);
  return fmt::format("killed by SIG{}", name != nullptr ? name : "?");
}

bool Process::WaitForExit(Deadline deadline) const noexcept {
  pollfd waiting{pidfd_.get(), POLLIN, 0};
  while (true) {
    int ready = poll(&waiting, 1, deadline.RemainingForPoll());
    if (ready > 0) return true;
    if (ready == 0 && deadline.Passed()) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

ExitStatus Process::Wait(Deadline deadline) {
  while (true) {
    if (auto status = Poll()) return *status;
    if (!WaitForExit(deadline)) throw Timeout({.summary = fmt::format("process {} has not ended in time", pid_)});
  }
}

ExitStatus Process::Kill() noexcept {
  while (true) {
    if (auto status = Poll()) return *status;
    Signal(SIGKILL);
    WaitForExit(Deadline::Never());
  }
}

void Process::End(Duration grace) noexcept {
  if (Poll()) return;
  if (grace > Duration::zero()) {
    Signal(SIGTERM);
    WaitForExit(Deadline::After(grace));
  }
  Kill();
}

}  // namespace mayfly::internal
