// Specs as JSON: written and hashed by walking the field tables of internal/spec_fields.h, read by
// internal/json_reader.h.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/internal/json_reader.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/internal/spec_fields.h>
#include <mayfly/spec.h>
#include <xxhash.h>

#include <concepts>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace mayfly {
namespace {

using internal::ForEachField;
using internal::Identity;
using internal::Quoted;
using internal::SpecEnum;
using internal::SpecList;
using internal::SpecOptional;
using internal::SpecPath;
using internal::SpecStruct;
using nlohmann::ordered_json;

class Writer {
 public:
  // `identity`: only the fields that CanonicalHash covers.
  explicit Writer(bool identity) : identity_(identity) {}

  template <class T>
  ordered_json Write(const SpecPath& path, const T& value) const {
    if constexpr (std::same_as<T, std::string>) {
      if (!internal::IsUtf8(value)) path.Refuse(Quoted(value) + " is not allowed", "UTF-8");
      return value;
    } else if constexpr (std::same_as<T, Bytes>) {
      return ToString(value);
    } else if constexpr (std::same_as<T, std::chrono::milliseconds>) {
      return value.count();
    } else if constexpr (SpecEnum<T>) {
      std::string_view name = internal::Name(value);
      if (name.empty()) path.Refuse(fmt::format("{} is no value of the enum", static_cast<int>(value)));
      return name;
    } else if constexpr (SpecStruct<T>) {
      return WriteStruct(path, value);
    } else if constexpr (SpecList<T>) {
      return WriteList(path, value);
    } else if constexpr (SpecOptional<T>) {
      return Write(path, *value);
    } else {
      return value;
    }
  }

 private:
  template <class T>
  ordered_json WriteStruct(const SpecPath& path, const T& object) const {
    const T defaults;
    ordered_json out = ordered_json::object();
    ForEachField(object, [&](const auto& field, const auto& value) {
      if (value == defaults.*field.member || (identity_ && field.identity == Identity::kNo)) return;
      out[std::string(field.name)] = Write(path.Key(field.name), value);
    });
    return out;
  }

  template <class T>
  ordered_json WriteList(const SpecPath& path, const T& list) const {
    ordered_json out = ordered_json::array();
    for (size_t i = 0; i < list.size(); ++i) out.push_back(Write(path.Index(i), list[i]));
    return out;
  }

  bool identity_;
};

}  // namespace

std::string ToJson(const MachineSpec& spec, int indent) {
  return Writer(/*identity=*/false).Write(SpecPath("spec"), spec).dump(indent == 0 ? -1 : indent);
}

MachineSpec SpecFromJson(std::string_view json, std::string_view where) {
  return internal::ReadJson<MachineSpec>(SpecPath(where), json);
}

std::string CanonicalHash(const MachineSpec& spec) {
  std::string text = Writer(/*identity=*/true).Write(SpecPath("spec"), spec).dump();
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(text.data(), text.size()));
  return fmt::format("{:02x}", fmt::join(digest.digest, ""));
}

}  // namespace mayfly
