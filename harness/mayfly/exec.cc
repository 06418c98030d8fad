#include <mayfly/exec.h>

#include <csignal>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>

namespace mayfly {
namespace {

constexpr size_t kTail = 2000;  // of each stream, in messages

// The end of `text`, each line indented, whole lines if possible.
std::string Tail(std::string_view name, std::string_view text) {
  if (text.empty()) return "";
  std::string_view tail = text;
  if (tail.size() > kTail) {
    tail = tail.substr(tail.size() - kTail);
    if (size_t line = tail.find('\n'); line != std::string_view::npos && line + 1 < tail.size())
      tail.remove_prefix(line + 1);
  }
  std::string shown = fmt::format("\n  {}{}:", name, tail.size() < text.size() ? " (its end)" : "");
  while (!tail.empty()) {
    std::string_view line = tail.substr(0, tail.find('\n'));
    tail.remove_prefix(std::min(line.size() + 1, tail.size()));
    shown += fmt::format("\n    {}", line);
  }
  return shown;
}

std::string SignalName(int signal) {
  const char* abbreviation = sigabbrev_np(signal);
  return abbreviation == nullptr ? fmt::format("signal {}", signal) : fmt::format("SIG{}", abbreviation);
}

std::string HowItEnded(const ExecResult& result) {
  if (result.timed_out) return "was killed after its timeout";
  if (result.signal != 0) return "was killed by " + SignalName(result.signal);
  return fmt::format("exited with {}", result.exit_code);
}

}  // namespace

Command::Command(std::vector<std::string> argv)
    : argv_(std::move(argv)), text_(fmt::format("{}", fmt::join(argv_, " "))) {}

std::string ExecResult::ToString() const {
  std::string text = fmt::format("`{}` {} after {}", command, HowItEnded(*this), ForPeople(took));
  if (dropped > 0) text += fmt::format("\n  {} bytes of its output were dropped: more than max_output", dropped);
  return text + Tail("standard output", out) + Tail("standard error", err);
}

const ExecResult& ExecResult::OrThrow() const& {
  if (ok()) return *this;
  throw GuestFailed({.summary = ToString(), .notes = {}, .next_step = {}});
}

ExecResult ExecResult::OrThrow() && {
  static_cast<const ExecResult&>(*this).OrThrow();
  return std::move(*this);
}

void PrintTo(const ExecResult& result, std::ostream* out) { *out << result.ToString(); }

}  // namespace mayfly
