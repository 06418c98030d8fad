#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <system_error>

#include "cli/commands.h"

namespace mayfly::cli {
namespace {

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

std::string_view Variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return value != nullptr ? value : "";
}

constexpr std::string_view kCodes[] = {"32", "33", "31", "1", "2"};  // in the order of Colour

// errno of the first write to standard output that failed; 0: none. Kept, because the stream itself forgets it.
int output_failure = 0;

void NoteOutput(bool written) {
  if (!written && output_failure == 0) output_failure = errno != 0 ? errno : EIO;
}

}  // namespace

void Print(std::string_view text) {
  errno = 0;
  NoteOutput(std::fwrite(text.data(), 1, text.size(), stdout) == text.size());
}

bool FlushOutput() {
  errno = 0;
  NoteOutput(std::fflush(stdout) == 0);
  return output_failure == 0;
}

int FinishOutput() {
  FlushOutput();
  if (output_failure == 0) return 0;
  if (output_failure == EPIPE) return kSignalled + SIGPIPE;
  Complain("mayfly: cannot write standard output: " + std::generic_category().message(output_failure));
  return kFailed;
}

void Complain(std::string_view line) noexcept {
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fputc('\n', stderr);
}

bool WantsColour(int fd) {
  if (!Variable("NO_COLOR").empty()) return false;
  std::string_view force = Variable("CLICOLOR_FORCE");
  if (!force.empty() && force != "0") return true;
  return isatty(fd) != 0 && Variable("TERM") != "dumb";
}

std::string Coloured(std::string_view text, Colour colour, bool on) {
  if (!on) return std::string(text);
  return fmt::format("\033[{}m{}\033[0m", kCodes[static_cast<size_t>(colour)], text);
}

size_t Width(std::string_view text) {
  return text.size() - static_cast<size_t>(std::count_if(text.begin(), text.end(), IsContinuation));
}

std::string Padded(std::string_view text, size_t width) {
  size_t used = Width(text);
  return std::string(text) + std::string(used < width ? width - used : 0, ' ');
}

std::string CutToWidth(std::string_view text, size_t width) {
  if (Width(text) <= width) return std::string(text);
  size_t end = 0;
  for (size_t columns = 0; end < text.size(); ++end) {
    if (IsContinuation(text[end])) continue;
    if (++columns >= width) break;
  }
  return std::string(text.substr(0, end)) + "…";
}

std::vector<std::string> Wrapped(std::string_view text, size_t width) {
  std::vector<std::string> lines;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    if (lines.empty() || Width(lines.back()) + 1 + Width(word) > width) {
      lines.push_back(word);
    } else {
      lines.back() += " " + word;
    }
  }
  return lines;
}

}  // namespace mayfly::cli
