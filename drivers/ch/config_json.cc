// Cloud Hypervisor's JSON, written and read by walking the field tables of config_fields.h.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "drivers/ch/api_error.h"
#include "drivers/ch/config_fields.h"

namespace mayfly::ch {
namespace {

using internal::ForEachField;
using internal::kEnumNames;
using internal::SpecEnum;
using internal::SpecList;
using internal::SpecOptional;
using internal::SpecStruct;
using nlohmann::json;

// --- Writing --------------------------------------------------------------------------------------------------------

template <class T>
bool IsSet(const T& value) {
  if constexpr (SpecOptional<T>) {
    return value.has_value();
  } else if constexpr (std::same_as<T, std::string> || SpecList<T>) {
    return !value.empty();
  } else {
    return true;
  }
}

template <class T>
json Write(const T& value);

template <class T>
void WriteFields(const T& object, json& out) {
  ForEachField(object, [&](const auto& field, const auto& value) {
    using Member = std::remove_cvref_t<decltype(value)>;
    if constexpr (SpecStruct<Member>) {
      if (field.name.empty()) return WriteFields(value, out);
    }
    if (IsSet(value)) out[std::string(field.name)] = Write(value);
  });
}

template <class T>
json Write(const T& value) {
  if constexpr (SpecEnum<T>) {
    return internal::Name(value);
  } else if constexpr (SpecStruct<T>) {
    json out = json::object();
    WriteFields(value, out);
    return out;
  } else if constexpr (SpecList<T>) {
    json out = json::array();
    for (const auto& element : value) out.push_back(Write(element));
    return out;
  } else if constexpr (SpecOptional<T>) {
    return Write(*value);
  } else {
    return value;
  }
}

// --- Reading --------------------------------------------------------------------------------------------------------

// Throws BadAnswer: "<path>: <value> is no <expected>".
[[noreturn]] void Refuse(const std::string& path, const json& value, std::string_view expected) {
  throw BadAnswer(
      {.summary = fmt::format("Cloud Hypervisor's answer: {}: {} is no {}", path,
                              Excerpt(value.dump(-1, ' ', false, json::error_handler_t::replace)), expected)});
}

template <class T>
void Read(const std::string& path, const json& value, T& out);

template <class T>
void ReadFields(const std::string& path, const json& value, T& out) {
  if (!value.is_object()) Refuse(path, value, "object");
  ForEachField(out, [&](const auto& field, auto& member) {
    using Member = std::remove_cvref_t<decltype(member)>;
    if constexpr (SpecStruct<Member>) {
      if (field.name.empty()) return ReadFields(path, value, member);
    }
    auto found = value.find(field.name);
    if (found == value.end() || found->is_null()) return;
    Read(fmt::format("{}{}{}", path, path.empty() ? "" : ".", field.name), *found, member);
  });
}

template <class T>
void Read(const std::string& path, const json& value, T& out) {
  if constexpr (std::same_as<T, bool>) {
    if (!value.is_boolean()) Refuse(path, value, "true or false");
    out = value.get<bool>();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!value.is_string()) Refuse(path, value, "string");
    out = value.get<std::string>();
  } else if constexpr (SpecEnum<T>) {
    for (size_t i = 0; value.is_string() && i < kEnumNames<T>.size(); ++i) {
      if (value.get_ref<const std::string&>() != kEnumNames<T>[i]) continue;
      out = static_cast<T>(i);
      return;
    }
    Refuse(path, value, fmt::format("\"{}\"", fmt::join(kEnumNames<T>, "\", \"")));
  } else if constexpr (SpecStruct<T>) {
    ReadFields(path, value, out);
  } else if constexpr (SpecList<T>) {
    if (!value.is_array()) Refuse(path, value, "list");
    out.resize(value.size());
    for (size_t i = 0; i < value.size(); ++i) Read(fmt::format("{}[{}]", path, i), value[i], out[i]);
  } else if constexpr (SpecOptional<T>) {
    Read(path, value, out.emplace());
  } else if constexpr (std::signed_integral<T>) {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)) {
      Refuse(path, value, "whole number");
    }
    out = value.get<T>();
  } else {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<T>::max()) {
      Refuse(path, value, fmt::format("whole number from 0 to {}", std::numeric_limits<T>::max()));
    }
    out = value.get<T>();
  }
}

json Parse(const std::string& text) {
  // The parser's own stack is bounded by what a sane answer needs: real ones are nested five deep.
  constexpr int kDeepest = 64;
  json value = json::parse(
      text,
      [](int depth, json::parse_event_t, json&) {
        if (depth > kDeepest) throw BadAnswer({.summary = "Cloud Hypervisor's answer is nested too deeply"});
        return true;
      },
      /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    throw BadAnswer({.summary = fmt::format("Cloud Hypervisor's answer is no JSON: '{}'", Excerpt(text))});
  }
  return value;
}

template <class T>
T FromJson(const std::string& text) {
  T out;
  ReadFields("", Parse(text), out);
  return out;
}

}  // namespace

json ToJson(const VmConfig& value) { return Write(value); }
json ToJson(const DiskConfig& value) { return Write(value); }
json ToJson(const NetConfig& value) { return Write(value); }
json ToJson(const FsConfig& value) { return Write(value); }
json ToJson(const GenericVhostUserConfig& value) { return Write(value); }
json ToJson(const PmemConfig& value) { return Write(value); }
json ToJson(const VsockConfig& value) { return Write(value); }
json ToJson(const VdpaConfig& value) { return Write(value); }
json ToJson(const DeviceConfig& value) { return Write(value); }
json ToJson(const UserDeviceConfig& value) { return Write(value); }
json ToJson(const Resize& value) { return Write(value); }
json ToJson(const RestoreConfig& value) { return Write(value); }
json ToJson(const SendMigration& value) { return Write(value); }
json ToJson(const ReceiveMigration& value) { return Write(value); }

Ping PingFromJson(const std::string& text) { return FromJson<Ping>(text); }
VmInfo VmInfoFromJson(const std::string& text) { return FromJson<VmInfo>(text); }
VmConfig VmConfigFromJson(const std::string& text) { return FromJson<VmConfig>(text); }
PciDevice PciDeviceFromJson(const std::string& text) { return FromJson<PciDevice>(text); }

Counters CountersFromJson(const std::string& text) {
  // A latency that nobody measured: the least is still the greatest number, and the average its ten thousandth.
  constexpr uint64_t kNeverMeasured = std::numeric_limits<uint64_t>::max() / 10'000;
  json value = Parse(text);
  if (!value.is_object()) Refuse("counters", value, "object");
  Counters counters;
  for (const auto& [device, values] : value.items()) {
    if (!values.is_object()) Refuse(device, values, "object");
    auto& of_device = counters[device];
    for (const auto& [name, number] : values.items()) {
      uint64_t count = 0;
      Read(fmt::format("{}.{}", device, name), number, count);
      bool latency = name.find("_latency_") != std::string::npos;
      if (!latency || count < kNeverMeasured) of_device[name] = count;
    }
  }
  return counters;
}

}  // namespace mayfly::ch
