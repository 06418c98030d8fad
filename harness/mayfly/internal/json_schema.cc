#include <mayfly/internal/json_schema.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/json_reader.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>

#include <string_view>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

namespace mayfly::internal {
namespace {

using nlohmann::json;
using Path = std::vector<std::string>;

// "#/definitions/cell" and the like, followed to what they mean.
const json& Resolved(const json& root, const json& schema) {
  const json* found = &schema;
  while (found->contains("$ref")) {
    found = &root.at(json::json_pointer(found->at("$ref").get<std::string>().substr(1)));
  }
  return *found;
}

// What the schema says about the value at `path`.
const json& SchemaAt(const json& root, const Path& path) {
  const json* schema = &Resolved(root, root);
  for (const std::string& key : path) {
    if (schema->contains("items")) {
      schema = &schema->at("items");
    } else {
      const json& properties = schema->value("properties", json::object());
      schema = properties.contains(key) ? &schema->at("properties").at(key) : &schema->at("additionalProperties");
    }
    schema = &Resolved(root, *schema);
  }
  return *schema;
}

const json& ValueAt(const json& root, const Path& path) {
  const json* value = &root;
  for (const std::string& key : path) value = value->is_array() ? &value->at(std::stoul(key)) : &value->at(key);
  return *value;
}

// "[capabilities]", "[3]" of valijson's words for a place, without "<root>".
Path PathOf(const std::vector<std::string>& context) {
  Path path;
  for (size_t i = 1; i < context.size(); ++i) path.push_back(context[i].substr(1, context[i].size() - 2));
  return path;
}

std::string NotAllowed(const json& value, std::string_view allowed, std::string_view hint = {}) {
  return fmt::format("{} is not allowed; allowed: {}{}", ShownValue(value), allowed, hint);
}

std::string OutsideOfEnum(const json& schema, const json& value) {
  std::vector<std::string> words;
  for (const json& word : schema.at("enum")) words.push_back(word.is_string() ? word.get<std::string>() : word.dump());
  std::vector<std::string_view> candidates(words.begin(), words.end());
  std::string hint;
  if (value.is_string() && Nearest(value.get<std::string>(), candidates)) {
    hint = DidYouMean(value.get<std::string>(), candidates);
  }
  return NotAllowed(value, fmt::format("{}", fmt::join(words, ", ")), hint);
}

std::string Missing(const json& schema, const json& value) {
  std::vector<std::string> missing;
  for (const json& key : schema.at("required")) {
    if (!value.contains(key.get<std::string>())) missing.push_back(Quoted(key.get<std::string>()));
  }
  return fmt::format("{} {} missing", fmt::join(missing, ", "), missing.size() == 1 ? "is" : "are");
}

std::string UnknownKeys(const json& schema, const json& value) {
  std::vector<std::string_view> known;
  for (const auto& [key, unused] : schema.at("properties").items()) known.push_back(key);
  std::vector<std::string> unknown;
  for (const auto& [key, unused] : value.items()) {
    if (!schema.at("properties").contains(key)) unknown.push_back(Quoted(key) + DidYouMean(key, known));
  }
  return fmt::format("unknown key {}", fmt::join(unknown, "; unknown key "));
}

std::string Undescribed(const json& schema, const json& value) {
  return NotAllowed(value, schema.value("description", schema.value("type", "something else")));
}

// How the messages of valijson begin, and what we say instead.
struct Wording {
  std::string_view valijson;
  std::string (*text)(const json& schema, const json& value);
};
constexpr Wording kWordings[] = {
    {"Failed to match against any enum values", OutsideOfEnum},
    {"Missing required property", Missing},
    {"Object contains a property", UnknownKeys},
    {"Failed to match regex", Undescribed},
    {"Value type not permitted", Undescribed},
    {"Elements at indexes", Undescribed},
    {"Array should contain no fewer", Undescribed},
};

std::string TextOf(const std::string& message, const json& schema, const json& value) {
  for (const Wording& wording : kWordings) {
    if (message.starts_with(wording.valijson)) return wording.text(schema, value);
  }
  return fmt::format("{}: {}", ShownValue(value), message);
}

}  // namespace

std::vector<SchemaFault> FaultsAgainst(const json& schema, const json& value) {
  valijson::Schema parsed;
  valijson::ValidationResults results;
  try {
    valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(schema), parsed);
    valijson::Validator().validate(parsed, valijson::adapters::NlohmannJsonAdapter(value), &results);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw BadSpec({.summary = fmt::format("the JSON schema is none: {}", error.what())});
  }
  std::vector<SchemaFault> faults;
  for (const auto& error : results) {
    // After a fault inside, valijson tells of each value around it.
    if (error.description.starts_with("Failed to validate ")) continue;
    SchemaFault fault{.path = PathOf(error.context)};
    fault.text = TextOf(error.description, SchemaAt(schema, fault.path), ValueAt(value, fault.path));
    bool told = false;
    for (const SchemaFault& before : faults) told |= before.path == fault.path && before.text == fault.text;
    if (!told) faults.push_back(std::move(fault));
  }
  return faults;
}

void RequireValid(const json& schema, const json& value, std::string_view origin, std::string next_step) {
  std::vector<SchemaFault> faults = FaultsAgainst(schema, value);
  if (faults.empty()) return;
  throw BadSpec({.summary = fmt::format("{}: {}: {}", origin, fmt::join(faults[0].path, "."), faults[0].text),
                 .next_step = std::move(next_step)});
}

}  // namespace mayfly::internal
