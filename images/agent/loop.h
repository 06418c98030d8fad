// The agent's event loop: descriptors, timers, children and signals, on one thread.
//
// A handler may watch and forget anything, its own descriptor too. Handlers never block.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <mayfly/internal/unique_fd.h>

namespace mayfly::agent {

using internal::UniqueFd;
using Milliseconds = std::chrono::milliseconds;

class Loop {
 public:
  // Blocks the signals that it handles, and ignores SIGPIPE.
  Loop();

  using FdHandler = std::function<void(uint32_t events)>;
  // Calls `handler` when one of `events` (EPOLLIN, EPOLLOUT, EPOLLET …) or an error holds for `fd`.
  void Watch(int fd, uint32_t events, FdHandler handler);
  void Forget(int fd);  // nothing when it is not watched

  using TimerId = uint64_t;  // 0 is none
  TimerId After(Milliseconds delay, std::function<void()> handler);
  void Cancel(TimerId& timer);  // and sets it to 0

  // Calls `handler` once with the wait status of a child. Children that nobody awaits are reaped silently.
  void AwaitChild(pid_t pid, std::function<void(int status)> handler);
  void ForgetChild(pid_t pid) { children_.erase(pid); }
  // True while this process has children that are not reaped.
  bool HasChildren() const;
  // Called for each arrival of a signal of kSignals except SIGCHLD.
  std::function<void(int signal)> on_signal;
  // Called after each SIGCHLD was dealt with.
  std::function<void()> on_children;
  // Called before each wait; true: it has more to do, so do not wait.
  std::function<bool()> before_wait;

  void Run();  // until Stop
  void Stop() { stopped_ = true; }

 private:
  struct Watched {
    FdHandler handler;
    uint32_t generation = 0;
  };
  using Time = std::chrono::steady_clock::time_point;
  void OnSignals();
  void Reap();
  void RunTimers();
  int WaitMilliseconds() const;

  UniqueFd epoll_;
  UniqueFd signals_;
  std::vector<std::shared_ptr<Watched>> watched_;  // by descriptor
  uint32_t generation_ = 0;
  std::map<std::pair<Time, TimerId>, std::function<void()>> timers_;
  std::map<TimerId, Time> timer_times_;
  TimerId next_timer_ = 1;
  std::map<pid_t, std::function<void(int)>> children_;
  bool stopped_ = false;
};

}  // namespace mayfly::agent
