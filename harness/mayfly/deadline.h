// A point in time until which something may take.
//
// Functions that wait take a duration from their callers and turn it into a `Deadline` once, at their start, so that
// several waits in a row share one allowance:
//
//   Deadline deadline = Deadline::After(10s);
//   socket.Connect(deadline);
//   socket.Read(deadline);
//
// MAYFLY_TIMEOUT_FACTOR (a number from 0.1 to 100, default 1) stretches every default wait of mayfly, for slow hosts
// and sanitizer builds: `Scaled(30s)`. Waits that a caller gives are taken as they are.
#pragma once

#include <chrono>
#include <string>

namespace mayfly {

using Clock = std::chrono::steady_clock;
using Duration = std::chrono::nanoseconds;

class Deadline {
 public:
  // A duration of zero or less has passed already; one too long for the clock never passes.
  static Deadline After(Duration duration);
  static Deadline Never() { return Deadline(Clock::time_point::max()); }

  Clock::time_point time() const { return time_; }
  bool Passed() const { return Clock::now() >= time_; }
  // What is left, never negative.
  Duration Remaining() const;
  // What is left for poll(2): milliseconds rounded up, -1 for never.
  int RemainingForPoll() const;

 private:
  explicit Deadline(Clock::time_point time) : time_(time) {}
  Clock::time_point time_;
};

// `duration` times MAYFLY_TIMEOUT_FACTOR. Throws BadSpec when the variable holds anything but a number from 0.1 to 100.
Duration Scaled(Duration duration);

// "1.40 s", "12 ms", "0.7 ms", "2 min 5 s".
std::string ForPeople(Duration duration);

}  // namespace mayfly
