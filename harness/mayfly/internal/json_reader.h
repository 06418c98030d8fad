// JSON that a person wrote, read into the structs of a field table (internal/spec_fields.h).
//
//   auto spec = ReadJson<MachineSpec>(SpecPath("spec.json"), text);
//
// A struct is readable when kSpecFields lists its members. Keys may come in any order and be left out; one that is
// unknown or there twice, a wrong type and a value that is not allowed throw BadSpec, which names the place, the value
// and what is allowed, and for an unknown key the nearest known one; broken JSON is told with line and column.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/bytes.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/internal/spec_fields.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// The text as a tree.
nlohmann::json ParseJson(const SpecPath& root, std::string_view text);

// A value in a message: a list or object by its brackets only.
std::string ShownValue(const nlohmann::json& value);

// Throws BadSpec: "<path>: <value> is not allowed; allowed: <allowed>".
[[noreturn]] void RefuseValue(const SpecPath& path, const nlohmann::json& value, std::string_view allowed);

void ReadDuration(const SpecPath& path, const nlohmann::json& value, std::chrono::milliseconds& out);
void ReadBytes(const SpecPath& path, const nlohmann::json& value, Bytes& out);

template <class T>
void Read(const SpecPath& path, const nlohmann::json& value, T& out);

template <class T>
void ReadNumber(const SpecPath& path, const nlohmann::json& value, T& out) {
  constexpr uint64_t kMost = std::numeric_limits<T>::max();
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kMost) {
    RefuseValue(path, value, fmt::format("a whole number from 0 to {}", kMost));
  }
  out = value.get<T>();
}

template <class Enum>
void ReadEnum(const SpecPath& path, const nlohmann::json& value, Enum& out) {
  constexpr const auto& kNames = kEnumNames<Enum>;
  for (size_t i = 0; value.is_string() && i < kNames.size(); ++i) {
    if (value.get_ref<const std::string&>() != kNames[i]) continue;
    out = static_cast<Enum>(i);
    return;
  }
  RefuseValue(path, value, fmt::format("\"{}\"", fmt::join(kNames, "\", \"")));
}

template <class T>
void ReadList(const SpecPath& path, const nlohmann::json& value, std::vector<T>& out) {
  if (!value.is_array()) RefuseValue(path, value, "a list");
  out.resize(value.size());
  for (size_t i = 0; i < value.size(); ++i) Read(path.Index(i), value[i], out[i]);
}

template <class T>
void ReadStruct(const SpecPath& path, const nlohmann::json& value, T& out) {
  if (!value.is_object()) RefuseValue(path, value, "an object");
  std::vector<std::string_view> known;
  ForEachField(out, [&](const auto& field, const auto& /*member*/) { known.push_back(field.name); });
  for (const auto& [key, unused] : value.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    path.Refuse(fmt::format("unknown key {}{}", Quoted(key), DidYouMean(key, known)));
  }
  ForEachField(out, [&](const auto& field, auto& member) {
    if (auto found = value.find(field.name); found != value.end()) Read(path.Key(field.name), *found, member);
  });
}

template <class T>
void Read(const SpecPath& path, const nlohmann::json& value, T& out) {
  if constexpr (std::same_as<T, bool>) {
    if (!value.is_boolean()) RefuseValue(path, value, "true or false");
    out = value.get<bool>();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!value.is_string()) RefuseValue(path, value, "a string");
    out = value.get<std::string>();
  } else if constexpr (std::same_as<T, Bytes>) {
    ReadBytes(path, value, out);
  } else if constexpr (std::same_as<T, std::chrono::milliseconds>) {
    ReadDuration(path, value, out);
  } else if constexpr (SpecEnum<T>) {
    ReadEnum(path, value, out);
  } else if constexpr (SpecStruct<T>) {
    ReadStruct(path, value, out);
  } else if constexpr (SpecList<T>) {
    ReadList(path, value, out);
  } else if constexpr (SpecOptional<T>) {
    Read(path, value, out.emplace());
  } else {
    ReadNumber(path, value, out);
  }
}

template <class T>
T ReadJson(const SpecPath& root, std::string_view text) {
  T out;
  Read(root, ParseJson(root, text), out);
  return out;
}

}  // namespace mayfly::internal
