#include "loop.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <utility>

namespace mayfly::agent {
namespace {

// SIGINT, SIGUSR1 and SIGUSR2 are what ctrl-alt-del, `halt` and `poweroff` of busybox send to process 1.
constexpr std::array kSignals = {SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
constexpr int kEventsAtOnce = 32;

}  // namespace

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : kSignals) sigaddset(&set, signal);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  // Whatever was ignored when the agent was started would stay so in commands.
  for (int number = 1; number < NSIG; ++number) {
    if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
  }
  signal(SIGPIPE, SIG_IGN);
  signals_.Reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  Watch(signals_.get(), EPOLLIN, [this](uint32_t) { OnSignals(); });
}

void Loop::Watch(int fd, uint32_t events, FdHandler handler) {
  auto index = static_cast<size_t>(fd);
  if (watched_.size() <= index) watched_.resize(index + 1);
  bool known = watched_[index] != nullptr;
  watched_[index] = std::make_shared<Watched>(Watched{std::move(handler), ++generation_});
  epoll_event event{.events = events, .data = {.u64 = uint64_t{generation_} << 32 | static_cast<uint32_t>(fd)}};
  epoll_ctl(epoll_.get(), known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
}

void Loop::Forget(int fd) {
  auto index = static_cast<size_t>(fd);
  if (fd < 0 || index >= watched_.size() || watched_[index] == nullptr) return;
  watched_[index].reset();
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Loop::TimerId Loop::After(Milliseconds delay, std::function<void()> handler) {
  // A century is enough, and adding it cannot overflow.
  Time time = std::chrono::steady_clock::now() + std::min<Milliseconds>(delay, std::chrono::hours(24 * 36500));
  TimerId id = next_timer_++;
  timers_.emplace(std::pair(time, id), std::move(handler));
  timer_times_.emplace(id, time);
  return id;
}

void Loop::Cancel(TimerId& timer) {
  auto found = timer_times_.find(std::exchange(timer, 0));
  if (found == timer_times_.end()) return;
  timers_.erase({found->second, found->first});
  timer_times_.erase(found);
}

void Loop::AwaitChild(pid_t pid, std::function<void(int status)> handler) { children_[pid] = std::move(handler); }

bool Loop::HasChildren() const {
  return waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

void Loop::OnSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      Reap();
    } else if (on_signal) {
      on_signal(signal);
    }
  }
}

void Loop::Reap() {
  int status = 0;
  for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
    auto found = children_.find(pid);
    if (found == children_.end()) continue;
    auto handler = std::move(found->second);
    children_.erase(found);
    handler(status);
  }
  if (on_children) on_children();
}

void Loop::RunTimers() {
  Time now = timers_.empty() ? Time() : std::chrono::steady_clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto handler = std::move(timers_.begin()->second);
    timer_times_.erase(timers_.begin()->first.second);
    timers_.erase(timers_.begin());
    handler();
  }
}

int Loop::WaitMilliseconds() const {
  if (timers_.empty()) return -1;
  auto left = std::chrono::ceil<Milliseconds>(timers_.begin()->first.first - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, INT_MAX));
}

void Loop::Run() {
  while (!stopped_) {
    bool busy = before_wait && before_wait();
    if (stopped_) return;
    epoll_event events[kEventsAtOnce];
    int count = epoll_wait(epoll_.get(), events, kEventsAtOnce, busy ? 0 : WaitMilliseconds());
    for (int i = 0; i < count; ++i) {
      auto fd = static_cast<size_t>(events[i].data.u64 & 0xffffffff);
      // A handler that ran just now may have forgotten this one, or closed it and watched another under its number.
      std::shared_ptr<Watched> watched = fd < watched_.size() ? watched_[fd] : nullptr;
      if (watched != nullptr && watched->generation == events[i].data.u64 >> 32) watched->handler(events[i].events);
    }
    RunTimers();
  }
}

}  // namespace mayfly::agent
