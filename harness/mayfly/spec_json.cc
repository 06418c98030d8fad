// Specs as JSON: written, read and hashed by walking the field tables of internal/spec_fields.h.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/internal/spec_fields.h>
#include <mayfly/spec.h>
#include <xxhash.h>

#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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
using nlohmann::json;
using nlohmann::ordered_json;

// A spec is written by a person: what is larger or deeper is no spec.
constexpr size_t kLongestJson = 1 << 20;
constexpr size_t kDeepestJson = 16;

// --- Writing --------------------------------------------------------------------------------------------------------

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

// --- Reading: text to a tree ----------------------------------------------------------------------------------------

// Follows the parser to refuse duplicate keys, of which the tree would keep only the last, and deep nesting.
class ParseGuard {
 public:
  explicit ParseGuard(SpecPath root) : root_(std::move(root)) {}

  void operator()(json::parse_event_t event, const json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (frames_.size() == kDeepestJson) {
          Here().Refuse("is nested too deeply", fmt::format("{} levels", kDeepestJson));
        }
        frames_.emplace_back().is_list = event == json::parse_event_t::array_start;
        break;
      case json::parse_event_t::key:
        frames_.back().key = parsed.get<std::string>();
        if (!frames_.back().keys.insert(frames_.back().key).second) Here().Refuse("the key is there twice", "once");
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        frames_.pop_back();
        EndOfValue();
        break;
      case json::parse_event_t::value:
        EndOfValue();
        break;
    }
  }

 private:
  struct Frame {
    bool is_list = false;
    size_t index = 0;
    std::string key;
    std::set<std::string> keys;
  };

  void EndOfValue() {
    if (!frames_.empty()) ++frames_.back().index;
  }

  SpecPath Here() const {
    SpecPath path = root_;
    for (const Frame& frame : frames_) path = frame.is_list ? path.Index(frame.index) : path.Key(frame.key);
    return path;
  }

  SpecPath root_;
  std::vector<Frame> frames_;
};

// "line 3, column 7: …" of a parser's message, without the parser's own words before it.
std::string WhereAndWhy(const json::exception& error) {
  std::string_view text = error.what();
  size_t start = text.find("line ");
  if (start == std::string_view::npos) start = text.find("] ") == std::string_view::npos ? 0 : text.find("] ") + 2;
  // Quoted makes one line of printable UTF-8 of it, whatever the input was.
  constexpr size_t kLongest = 200;
  std::string quoted = Quoted(text.substr(start), kLongest);
  std::string plain;
  for (size_t i = 1; i + 1 < quoted.size(); ++i) {
    if (quoted[i] == '\\' && (quoted[i + 1] == '"' || quoted[i + 1] == '\\')) ++i;
    plain += quoted[i];
  }
  return plain;
}

json ParseJson(const SpecPath& root, std::string_view text) {
  if (text.size() > kLongestJson) {
    root.Refuse(fmt::format("{} of JSON are too much", ForPeople(Bytes(text.size()))), ToString(Bytes(kLongestJson)));
  }
  ParseGuard guard(root);
  try {
    return json::parse(text, [&guard](int /*depth*/, json::parse_event_t event, const json& parsed) {
      guard(event, parsed);
      return true;
    });
  } catch (const json::exception& error) {
    root.Refuse("is not JSON: " + WhereAndWhy(error));
  }
}

// --- Reading: a tree to a spec --------------------------------------------------------------------------------------

[[noreturn]] void RefuseValue(const SpecPath& path, const json& value, std::string_view allowed) {
  std::string shown;
  if (value.is_string()) {
    shown = Quoted(value.get_ref<const std::string&>());
  } else if (value.is_object()) {
    shown = value.empty() ? "{}" : "{…}";
  } else if (value.is_array()) {
    shown = value.empty() ? "[]" : "[…]";
  } else {
    shown = value.dump();
  }
  path.Refuse(shown + " is not allowed", allowed);
}

template <class T>
void Read(const SpecPath& path, const json& value, T& out);

template <class T>
void ReadNumber(const SpecPath& path, const json& value, T& out) {
  constexpr uint64_t kMost = std::numeric_limits<T>::max();
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kMost) {
    RefuseValue(path, value, fmt::format("a whole number from 0 to {}", kMost));
  }
  out = value.get<T>();
}

void ReadDuration(const SpecPath& path, const json& value, std::chrono::milliseconds& out) {
  constexpr auto kMost = static_cast<uint64_t>(std::chrono::milliseconds::max().count());
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kMost) {
    RefuseValue(path, value, "a whole number of milliseconds");
  }
  out = std::chrono::milliseconds(value.get<int64_t>());
}

void ReadBytes(const SpecPath& path, const json& value, Bytes& out) {
  std::optional<Bytes> bytes;
  if (value.is_number_unsigned()) bytes = Bytes(value.get<uint64_t>());
  if (value.is_string()) bytes = Bytes::Parse(value.get_ref<const std::string&>());
  if (!bytes) RefuseValue(path, value, "a size such as \"512MiB\", or a number of bytes");
  out = *bytes;
}

template <class Enum>
void ReadEnum(const SpecPath& path, const json& value, Enum& out) {
  constexpr const auto& kNames = internal::kEnumNames<Enum>;
  for (size_t i = 0; value.is_string() && i < kNames.size(); ++i) {
    if (value.get_ref<const std::string&>() != kNames[i]) continue;
    out = static_cast<Enum>(i);
    return;
  }
  RefuseValue(path, value, fmt::format("\"{}\"", fmt::join(kNames, "\", \"")));
}

template <class T>
void ReadList(const SpecPath& path, const json& value, std::vector<T>& out) {
  if (!value.is_array()) RefuseValue(path, value, "a list");
  out.resize(value.size());
  for (size_t i = 0; i < value.size(); ++i) Read(path.Index(i), value[i], out[i]);
}

template <class T>
void ReadStruct(const SpecPath& path, const json& value, T& out) {
  if (!value.is_object()) RefuseValue(path, value, "an object");
  std::vector<std::string_view> known;
  ForEachField(out, [&](const auto& field, const auto& /*member*/) { known.push_back(field.name); });
  for (const auto& [key, unused] : value.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    path.Refuse(fmt::format("unknown key {}{}", Quoted(key), internal::DidYouMean(key, known)));
  }
  ForEachField(out, [&](const auto& field, auto& member) {
    if (auto found = value.find(field.name); found != value.end()) Read(path.Key(field.name), *found, member);
  });
}

template <class T>
void Read(const SpecPath& path, const json& value, T& out) {
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

}  // namespace

std::string ToJson(const MachineSpec& spec, int indent) {
  return Writer(/*identity=*/false).Write(SpecPath("spec"), spec).dump(indent == 0 ? -1 : indent);
}

MachineSpec SpecFromJson(std::string_view json, std::string_view where) {
  SpecPath root(where);
  MachineSpec spec;
  Read(root, ParseJson(root, json), spec);
  return spec;
}

std::string CanonicalHash(const MachineSpec& spec) {
  std::string text = Writer(/*identity=*/true).Write(SpecPath("spec"), spec).dump();
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(text.data(), text.size()));
  return fmt::format("{:02x}", fmt::join(digest.digest, ""));
}

}  // namespace mayfly
