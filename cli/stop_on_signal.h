// Ctrl-C and SIGTERM as a wish to stop in an orderly way.
#pragma once

#include <array>
#include <csignal>
#include <functional>
#include <utility>

namespace mayfly::cli {

// While it lives the first of those signals calls `stop`, which does only what a signal handler may; the second one
// ends this process. One at a time.
class StopOnSignal {
 public:
  explicit StopOnSignal(std::function<void()> stop) {
    target = std::move(stop);
    struct sigaction action{};
    action.sa_handler = [](int) { target(); };
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~StopOnSignal() {
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

 private:
  static constexpr std::array<int, 2> kSignals = {SIGINT, SIGTERM};
  inline static std::function<void()> target;
  std::array<struct sigaction, 2> before_{};
};

}  // namespace mayfly::cli
