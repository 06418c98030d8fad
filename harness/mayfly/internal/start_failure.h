// Why a VMM did not start, made into the right error by what it said.
//
//   constexpr std::array kRefusals = {Refusal{"could not load kernel", Fault::kSpec, "its kernel cannot be loaded",
//   …}}; ThrowIfKnown(kRefusals, said, std::move(text));        // BadSpec or HostLacks throw VmmDied(…); // nothing
//   known
#pragma once

#include <mayfly/errors.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// Who can change it.
enum class Fault { kSpec, kHost };

struct Refusal {
  std::string_view words;  // in what the VMM wrote
  Fault fault;
  std::string_view summary;
  std::string_view next_step;
};

// Throws BadSpec or HostLacks, by the first row whose words are in one of the lines: `text` with the row's summary
// appended to its own, and the row's next step. Returns when there is none.
void ThrowIfKnown(std::span<const Refusal> rows, const std::vector<std::string>& lines, const ErrorText& text);

}  // namespace mayfly::internal
