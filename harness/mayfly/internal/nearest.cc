#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/internal/nearest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace mayfly::internal {
namespace {

constexpr size_t kLongestWord = 64;

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Optimal string alignment distance; both words are at most kLongestWord long.
size_t Distance(std::string_view a, std::string_view b) {
  using Row = std::array<size_t, kLongestWord + 1>;
  Row before_last{};
  Row last{};
  Row row{};
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last = last;
    last = row;
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      bool same = Lower(a[i - 1]) == Lower(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      bool swapped = i > 1 && j > 1 && Lower(a[i - 1]) == Lower(b[j - 2]) && Lower(a[i - 2]) == Lower(b[j - 1]);
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::optional<std::string_view> Nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::optional<std::string_view> nearest;
  size_t least = 0;
  if (word.empty() || word.size() > kLongestWord) return nearest;
  for (std::string_view candidate : candidates) {
    if (candidate.size() > kLongestWord) continue;
    size_t distance = Distance(word, candidate);
    size_t allowed = std::max<size_t>(1, std::max(candidate.size(), word.size()) / 3);
    if (distance > allowed || distance >= candidate.size() || (nearest && distance >= least)) continue;
    nearest = candidate;
    least = distance;
  }
  return nearest;
}

std::string DidYouMean(std::string_view word, std::span<const std::string_view> candidates) {
  if (std::optional<std::string_view> nearest = Nearest(word, candidates)) {
    return fmt::format("; did you mean \"{}\"?", *nearest);
  }
  return candidates.empty() ? "" : fmt::format("; known: {}", fmt::join(candidates, ", "));
}

}  // namespace mayfly::internal
