// The word that was probably meant.
//
//   Nearest("memroy", {"cpus", "memory"}) == "memory"
//   DidYouMean("memroy", {"cpus", "memory"}) == "; did you mean \"memory\"?"
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mayfly::internal {

// The candidate with the fewest edits from `word` (a letter added, dropped, replaced or swapped with its neighbour;
// case does not count). Nothing when even that one needs more than a third of its letters, or when a word is over 64
// bytes. The first of several that are equally near.
std::optional<std::string_view> Nearest(std::string_view word, std::span<const std::string_view> candidates);

// For the end of a message: the nearest word as a question, else the list of what is known, else (no candidates)
// nothing.
std::string DidYouMean(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace mayfly::internal
