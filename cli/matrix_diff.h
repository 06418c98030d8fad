// What changed between two matrix files.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace mayfly::cli {

// One field that is not the same. Empty `before`: it is new; empty `after`: it is gone.
struct MatrixChange {
  std::string list{};   // "capabilities"
  std::string row{};    // "cpu.hotplug"
  std::string field{};  // "drivers.ch.status"; empty: the row itself
  std::string before{};
  std::string after{};
};

// Compares row by row, by id, so that the order does not matter. The documents need not hold to today's schema: an old
// one may be of another time. Throws BadSpec when one is no list of rows with ids at all.
std::vector<MatrixChange> ChangesBetween(const nlohmann::json& before, const nlohmann::json& after);

}  // namespace mayfly::cli
