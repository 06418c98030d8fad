// Whether JSON has the form that a JSON schema (draft 7) describes.
//
//   for (const SchemaFault& fault : FaultsAgainst(schema, value))
//     … fault.path …;   // {"disks", "1", "cache"}
//     … fault.text …;   // "fast" is not allowed; allowed: unsafe, writeback; did you mean "safe"?
//
// The text says what is allowed in the schema's own words: the list of an `enum`, else the `description`. All faults
// are found at once, in the order of the value.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

struct SchemaFault {
  std::vector<std::string> path{};  // keys and indexes from the root
  std::string text{};
};

// Throws BadSpec when the schema itself is none.
std::vector<SchemaFault> FaultsAgainst(const nlohmann::json& schema, const nlohmann::json& value);

// Throws BadSpec with the first fault of what comes from `origin`, such as a file.
void RequireValid(const nlohmann::json& schema, const nlohmann::json& value, std::string_view origin,
                  std::string next_step = {});

}  // namespace mayfly::internal
