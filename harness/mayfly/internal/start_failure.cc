#include <mayfly/internal/start_failure.h>

#include <algorithm>
#include <utility>

namespace mayfly::internal {

void ThrowIfKnown(std::span<const Refusal> rows, const std::vector<std::string>& lines, const ErrorText& text) {
  for (const Refusal& row : rows) {
    auto says = [&](const std::string& line) { return line.find(row.words) != std::string::npos; };
    if (std::none_of(lines.begin(), lines.end(), says)) continue;
    ErrorText known = text;
    known.summary += row.summary;
    known.next_step = row.next_step;
    if (row.fault == Fault::kSpec) throw BadSpec(std::move(known));
    throw HostLacks(std::move(known));
  }
}

}  // namespace mayfly::internal
