#include <mayfly/deadline.h>

#include <fmt/format.h>
#include <mayfly/errors.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <string_view>

namespace mayfly {
namespace {

double TimeoutFactor() {
  const char* text = std::getenv("MAYFLY_TIMEOUT_FACTOR");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  if (text == nullptr || *text == '\0') return 1;
  std::string_view view(text);
  double factor = 0;
  auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), factor);
  if (error != std::errc() || end != view.data() + view.size() || !(factor >= 0.1 && factor <= 100)) {
    throw BadSpec({.summary = fmt::format("MAYFLY_TIMEOUT_FACTOR: '{}' is not a number from 0.1 to 100", view),
                   .next_step = "unset it, or set it to 3 on a host that is three times too slow"});
  }
  return factor;
}

}  // namespace

Deadline Deadline::After(Duration duration) {
  Clock::time_point now = Clock::now();
  if (duration >= Clock::time_point::max() - now) return Never();
  return Deadline(now + std::chrono::duration_cast<Clock::duration>(std::max(duration, Duration::zero())));
}

Duration Deadline::Remaining() const {
  if (time_ == Clock::time_point::max()) return Duration::max();
  return std::max(Duration::zero(), std::chrono::duration_cast<Duration>(time_ - Clock::now()));
}

int Deadline::RemainingForPoll() const {
  if (time_ == Clock::time_point::max()) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(Remaining()).count();
  return static_cast<int>(std::min<int64_t>(left, INT_MAX));
}

Duration Scaled(Duration duration) { return std::chrono::duration_cast<Duration>(duration * TimeoutFactor()); }

std::string ForPeople(Duration duration) {
  double seconds = std::chrono::duration<double>(duration).count();
  if (seconds < 0.01) return fmt::format("{:.2g} ms", seconds * 1e3);
  if (seconds < 0.5) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 100) return fmt::format("{:.3g} s", seconds);
  auto whole = static_cast<int64_t>(seconds);
  return fmt::format("{} min {} s", whole / 60, whole % 60);
}

}  // namespace mayfly
