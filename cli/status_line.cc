#include "cli/status_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/output.h"
#include "cli/terminal.h"

namespace mayfly::cli {
namespace {

constexpr Duration kPatience = std::chrono::seconds(1);
constexpr std::string_view kWipe = "\r\033[K";

void Say(std::string_view text) noexcept { std::fwrite(text.data(), 1, text.size(), stderr); }

}  // namespace

StatusLine::Mode StatusLine::ModeFor(bool verbose) {
  if (verbose) return Mode::kEvery;
  return isatty(STDERR_FILENO) != 0 ? Mode::kTerminal : Mode::kQuiet;
}

StatusLine::StatusLine(Mode mode) : mode_(mode) {
  if (mode_ == Mode::kTerminal) late_ = std::thread([this] { ShowWhenLate(); });
}

StatusLine::~StatusLine() {
  Clear();
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  if (late_.joinable()) late_.join();
}

void StatusLine::Step(std::string_view what) {
  std::lock_guard lock(mutex_);
  if (mode_ == Mode::kEvery) Say(fmt::format("mayfly: {:>8}  {}\n", ForPeople(Duration(Clock::now() - start_)), what));
  if (mode_ != Mode::kTerminal) return;
  if (step_.empty()) since_ = Clock::now();
  step_ = what;
  if (drawn_) Draw();
  changed_.notify_all();
}

void StatusLine::Clear() noexcept {
  std::lock_guard lock(mutex_);
  if (drawn_) Say(kWipe);
  drawn_ = false;
  step_.clear();
  changed_.notify_all();
}

void StatusLine::ShowWhenLate() {
  std::unique_lock lock(mutex_);
  while (!over_) {
    if (step_.empty() || drawn_) {
      changed_.wait(lock);
    } else if (changed_.wait_until(lock, since_ + kPatience) == std::cv_status::timeout && !step_.empty() && !drawn_ &&
               Clock::now() >= since_ + kPatience) {
      Draw();
    }
  }
}

void StatusLine::Draw() {
  size_t columns = SizeOfTerminal(STDERR_FILENO).columns;
  Say(fmt::format("{}mayfly: {}", kWipe, CutToWidth(step_, columns > 10 ? columns - 10 : 1)));
  drawn_ = true;
}

}  // namespace mayfly::cli
