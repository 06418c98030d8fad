#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_fault.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace mayfly::internal {

std::string Quoted(std::string_view text, size_t longest) {
  std::string shown(text.substr(0, longest));
  if (text.size() > longest) {
    while (!shown.empty() && (static_cast<unsigned char>(text[shown.size()]) & 0xC0) == 0x80) shown.pop_back();
    shown += "…";
  }
  return nlohmann::json(shown).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool IsUtf8(std::string_view text) {
  try {
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

SpecPath SpecPath::Key(std::string_view key) const {
  SpecPath path = *this;
  if (!path.field_.empty()) path.field_ += '.';
  path.field_ += key;
  return path;
}

SpecPath SpecPath::Index(size_t index) const {
  SpecPath path = *this;
  path.field_ += fmt::format("[{}]", index);
  return path;
}

void SpecPath::Refuse(std::string_view fault, std::string_view allowed) const {
  std::string summary = origin_ + ": ";
  if (!field_.empty()) summary += field_ + ": ";
  summary += fault;
  if (!allowed.empty()) summary += fmt::format("; allowed: {}", allowed);
  throw BadSpec({.summary = summary, .notes = {}, .next_step = {}});
}

}  // namespace mayfly::internal
