#include "drivers/ch/event_stream.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

namespace mayfly::ch {
namespace {

using nlohmann::json;

std::string TextOf(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Seconds and nanoseconds; nothing for what is no such time.
std::optional<Duration> TimeOf(const json& value) {
  constexpr uint64_t kMostSeconds = uint64_t{1} << 32;
  constexpr uint64_t kNanosecondsASecond = 1'000'000'000;
  if (!value.is_object()) return std::nullopt;
  auto secs = value.find("secs");
  auto nanos = value.find("nanos");
  if (secs == value.end() || !secs->is_number_unsigned() || secs->get<uint64_t>() > kMostSeconds) return std::nullopt;
  if (nanos == value.end() || !nanos->is_number_unsigned() || nanos->get<uint64_t>() >= kNanosecondsASecond) {
    return std::nullopt;
  }
  return std::chrono::seconds(secs->get<uint64_t>()) + std::chrono::nanoseconds(nanos->get<uint64_t>());
}

}  // namespace

std::optional<VmmEvent> ParseEvent(std::string_view text) {
  constexpr int kDeepest = 8;
  json value = json::parse(
      text, [](int depth, json::parse_event_t, json&) { return depth <= kDeepest; }, /*allow_exceptions=*/false);
  if (!value.is_object()) return std::nullopt;
  auto source = value.find("source");
  auto name = value.find("event");
  if (source == value.end() || !source->is_string() || name == value.end() || !name->is_string()) return std::nullopt;
  VmmEvent event{.source = source->get<std::string>(), .name = name->get<std::string>()};
  if (auto timestamp = value.find("timestamp"); timestamp != value.end()) {
    auto at = TimeOf(*timestamp);
    if (!at) return std::nullopt;
    event.at = *at;
  }
  if (auto properties = value.find("properties"); properties != value.end() && properties->is_object()) {
    for (const auto& [key, property] : properties->items()) event.properties[key] = TextOf(property);
  }
  return event;
}

std::vector<VmmEvent> EventStream::Feed(std::string_view bytes) {
  constexpr std::string_view kEnd = "\n\n";
  std::vector<VmmEvent> events;
  while (!bytes.empty()) {
    // The end may be split between two pieces: the last byte of what has come is looked at again.
    size_t looked_at = piece_.empty() ? 0 : piece_.size() - 1;
    size_t room = kMaxEvent - piece_.size();
    std::string_view taken = bytes.substr(0, room);
    piece_.append(taken);
    size_t end = piece_.find(kEnd, looked_at);
    if (end == std::string::npos) {
      bytes.remove_prefix(taken.size());
      if (piece_.size() < kMaxEvent) continue;
      too_long_ = true;
      piece_.erase(0, piece_.size() - 1);
      continue;
    }
    size_t behind = piece_.size() - (end + kEnd.size());  // taken too many
    bytes.remove_prefix(taken.size() - behind);
    std::string piece = std::exchange(piece_, {}).substr(0, end);
    if (std::exchange(too_long_, false)) {
      ++skipped_;
    } else if (piece.find_first_not_of(" \r\n\t") != std::string::npos) {
      auto event = ParseEvent(piece);
      event ? events.push_back(std::move(*event)) : void(++skipped_);
    }
  }
  return events;
}

}  // namespace mayfly::ch
