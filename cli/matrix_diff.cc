#include "cli/matrix_diff.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>

#include <map>
#include <nlohmann/json.hpp>

namespace mayfly::cli {
namespace {

using nlohmann::json;
using Fields = std::map<std::string, std::string>;  // "drivers.ch.status" → "planned"
using Row = std::pair<std::string, std::string>;    // list and id
using Rows = std::map<Row, Fields>;

std::string Plain(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::vector<std::string> items;
  for (const json& item : value) items.push_back(Plain(item));
  return fmt::format("{}", fmt::join(items, ", "));
}

void Collect(const std::string& prefix, const json& value, Fields& out) {
  if (!value.is_object()) {
    out[prefix] = Plain(value);
    return;
  }
  for (const auto& [key, member] : value.items()) {
    if (prefix.empty() && key == "id") continue;
    Collect(prefix.empty() ? key : fmt::format("{}.{}", prefix, key), member, out);
  }
}

Rows RowsOf(const json& document) {
  Rows rows;
  if (!document.is_object()) throw BadSpec({.summary = "a matrix is an object with a list \"capabilities\""});
  for (const auto& [list, members] : document.items()) {
    if (!members.is_array()) continue;
    for (const json& member : members) {
      if (!member.is_object() || !member.contains("id")) continue;
      Collect("", member, rows[{list, Plain(member.at("id"))}]);
    }
  }
  if (rows.empty()) throw BadSpec({.summary = "there are no rows with ids in it"});
  return rows;
}

}  // namespace

std::vector<MatrixChange> ChangesBetween(const json& before, const json& after) {
  Rows old_rows = RowsOf(before);
  Rows new_rows = RowsOf(after);
  std::vector<MatrixChange> changes;
  for (const auto& [row, fields] : old_rows) {
    auto now = new_rows.find(row);
    if (now == new_rows.end()) {
      changes.push_back({row.first, row.second, "", "there", ""});
      continue;
    }
    for (const auto& [field, text] : fields) {
      auto other = now->second.find(field);
      std::string after_text = other == now->second.end() ? "" : other->second;
      if (after_text != text) changes.push_back({row.first, row.second, field, text, after_text});
    }
    for (const auto& [field, text] : now->second) {
      if (!fields.contains(field)) changes.push_back({row.first, row.second, field, "", text});
    }
  }
  for (const auto& [row, fields] : new_rows) {
    if (!old_rows.contains(row)) changes.push_back({row.first, row.second, "", "", "there"});
  }
  return changes;
}

}  // namespace mayfly::cli
