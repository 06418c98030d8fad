#include <fmt/format.h>
#include <mayfly/bytes.h>
#include <mayfly/internal/json_reader.h>

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mayfly::internal {
namespace {

using nlohmann::json;

// What is read here is written by a person: what is larger or deeper is a mistake.
constexpr size_t kLongestJson = 1 << 20;
constexpr size_t kDeepestJson = 16;

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

}  // namespace

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

std::string ShownValue(const json& value) {
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  if (value.is_object()) return value.empty() ? "{}" : "{…}";
  if (value.is_array()) return value.empty() ? "[]" : "[…]";
  return value.dump();
}

void RefuseValue(const SpecPath& path, const json& value, std::string_view allowed) {
  path.Refuse(ShownValue(value) + " is not allowed", allowed);
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

}  // namespace mayfly::internal
