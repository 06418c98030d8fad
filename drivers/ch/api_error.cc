#include "drivers/ch/api_error.h"

#include <fmt/format.h>
#include <mayfly/internal/spec_fault.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace mayfly::ch {
namespace {

using nlohmann::json;

ErrorText Text(const std::string& endpoint, unsigned status, const std::vector<std::string>& chain) {
  ErrorText text{.summary = fmt::format("Cloud Hypervisor refused '{}' ({})", endpoint, status)};
  if (chain.empty()) return text;
  text.summary += ": " + chain.back();
  text.notes.assign(chain.begin(), chain.end() - 1);
  return text;
}

}  // namespace

ApiError::ApiError(std::string endpoint, unsigned status, std::vector<std::string> chain)
    : Error(Text(endpoint, status, chain)), endpoint_(std::move(endpoint)), status_(status), chain_(std::move(chain)) {}

bool ApiError::Says(std::string_view words) const {
  return std::any_of(chain_.begin(), chain_.end(),
                     [&](const std::string& link) { return link.find(words) != std::string::npos; });
}

std::vector<std::string> ErrorChain(const std::string& body) {
  constexpr size_t kLongestChain = 32;
  json value =
      json::parse(body, [](int depth, json::parse_event_t, json&) { return depth <= 1; }, /*allow_exceptions=*/false);
  std::vector<std::string> chain;
  if (value.is_array()) {
    for (const json& link : value) {
      if (chain.size() == kLongestChain) break;
      if (link.is_string()) chain.push_back(Excerpt(link.get_ref<const std::string&>()));
    }
  }
  if (chain.empty() && !body.empty()) chain.push_back(Excerpt(body));
  return chain;
}

std::string Excerpt(std::string_view text) {
  constexpr size_t kShown = 400;
  std::string_view kept = text.substr(0, kShown);
  // A character of UTF-8 is not cut; what is no UTF-8 does not get into messages, which are.
  while (kept.size() < text.size() && !kept.empty() && (text[kept.size()] & 0xc0) == 0x80) kept.remove_suffix(1);
  bool utf8 = internal::IsUtf8(kept);
  std::string shown;
  for (char c : kept) {
    auto byte = static_cast<unsigned char>(c);
    bool control = byte < ' ' || byte == 0x7f;
    shown.push_back(control ? ' ' : byte < 0x80 || utf8 ? c : '?');
  }
  return kept.size() < text.size() ? shown + "…" : shown;
}

}  // namespace mayfly::ch
