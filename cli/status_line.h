// What mayfly is doing, told on standard error to whoever waits for it.
//
//   StatusLine status(StatusLine::Mode::kTerminal);
//   status.Step("boot tiny-7f3a");         // shown when all of it has taken a second, on a line that is wiped later
//   status.Clear();                        // before anything else is printed
//
// Thread-safe.
#pragma once

#include <mayfly/deadline.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace mayfly::cli {

class StatusLine {
 public:
  enum class Mode {
    kQuiet,     // nothing
    kTerminal,  // one line that changes, after a second
    kEvery      // each step at once, on a line of its own with the time
  };

  // What fits standard error: kEvery when `verbose`, kTerminal on a terminal, else kQuiet.
  static Mode ModeFor(bool verbose);

  explicit StatusLine(Mode mode);
  ~StatusLine();

  void Step(std::string_view what);
  // Wipes the line and forgets the step. The next one is shown after a second of its own.
  void Clear() noexcept;

 private:
  void ShowWhenLate();
  void Draw();

  const Mode mode_;
  const Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string step_;  // empty: none
  Clock::time_point since_{};
  bool drawn_ = false;
  bool over_ = false;
  std::thread late_;
};

}  // namespace mayfly::cli
