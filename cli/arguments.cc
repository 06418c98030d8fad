#include "cli/arguments.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::Quoted;

constexpr uint64_t kLongestTextFile = 16 << 20;

[[noreturn]] void Refuse(std::string_view flag, std::string_view text, std::string_view fault,
                         std::string_view allowed) {
  throw BadSpec({.summary = fmt::format("{}: {} {}; allowed: {}", flag, Quoted(text), fault, allowed)});
}

[[noreturn]] void RefuseFile(std::string_view flag, const fs::path& path, const std::string& why) {
  throw BadSpec({.summary = fmt::format("{}: cannot read {}: {}", flag, Quoted(path.string()), why)});
}

struct Unit {
  std::string_view name;
  double seconds;
};
constexpr Unit kUnits[] = {{"ms", 1e-3}, {"s", 1}, {"", 1}, {"m", 60}, {"h", 3600}};
constexpr double kLongestSeconds = 1e9;

}  // namespace

Bytes ReadSize(std::string_view flag, std::string_view text) {
  auto size = Bytes::Parse(text);
  if (!size) Refuse(flag, text, "is no size", "a number with K, M, G or T, such as 512M");
  return *size;
}

uint32_t ReadCount(std::string_view flag, std::string_view text) {
  uint32_t count = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size()) {
    Refuse(flag, text, "is no count", "a whole number, such as 2");
  }
  return count;
}

Duration ReadDuration(std::string_view flag, std::string_view text) {
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  std::string_view name(end, static_cast<size_t>(text.data() + text.size() - end));
  for (const Unit& unit : kUnits) {
    if (error != std::errc() || unit.name != name) continue;
    double seconds = number * unit.seconds;
    if (!(seconds > 0) || seconds > kLongestSeconds) break;
    return std::chrono::ceil<Duration>(std::chrono::duration<double>(seconds));
  }
  Refuse(flag, text, "is no time", "a number above 0 with ms, s, m or h, such as 90s");
}

Copy ReadCopy(std::string_view text) {
  size_t colon = text.rfind(":/");
  if (colon == std::string_view::npos || colon == 0) {
    Refuse("--copy", text, "does not say what to copy where", "HOST:GUEST with an absolute GUEST, such as build:/opt/");
  }
  Copy copy{.from = text.substr(0, colon), .to = std::string(text.substr(colon + 1))};
  if (access(copy.from.c_str(), R_OK) != 0) {
    RefuseFile("--copy", copy.from, std::generic_category().message(errno));
  }
  copy.from = fs::absolute(copy.from).lexically_normal();
  return copy;
}

std::pair<std::string, std::string> ReadVariable(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    Refuse("--env", text, "is no variable", "NAME=VALUE, such as LANG=C.UTF-8");
  }
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

std::string ReadTextFile(std::string_view flag, const fs::path& path) {
  internal::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) RefuseFile(flag, path, std::generic_category().message(errno));
  std::string content;
  char buffer[1 << 16];
  ssize_t count = 0;
  while ((count = read(fd.get(), buffer, sizeof buffer)) > 0) {
    content.append(buffer, static_cast<size_t>(count));
    if (content.size() > kLongestTextFile) RefuseFile(flag, path, "it has more than 16 MiB");
  }
  if (count < 0) RefuseFile(flag, path, std::generic_category().message(errno));
  return content;
}

}  // namespace mayfly::cli
