// The events of Cloud Hypervisor's --event-monitor, read from bytes as they come.
//
//   EventStream events;
//   for (const VmmEvent& event : events.Feed(bytes)) …    // {.source = "vm", .name = "booted"}
//
// Each event is a JSON object over several lines, and a blank line ends it (it is not one object a line). Cloud
// Hypervisor writes without waiting and ignores errors, so on a full pipe an event may be cut short: what is no event,
// or longer than kMaxEvent, is skipped up to the next blank line and counted.
#pragma once

#include <mayfly/deadline.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::ch {

struct VmmEvent {
  Duration at{};         // since the monitor began
  std::string source{};  // "vmm", "vm", "guest", "virtio-device", "vdpa"
  std::string name{};    // "booted", "device-removed", "panic"
  std::map<std::string, std::string> properties{};
  friend bool operator==(const VmmEvent&, const VmmEvent&) = default;
};

class EventStream {
 public:
  static constexpr size_t kMaxEvent = size_t{64} << 10;

  // The events that these bytes complete, in order.
  std::vector<VmmEvent> Feed(std::string_view bytes);

  // How many pieces between blank lines were no events.
  uint64_t skipped() const { return skipped_; }

  // The bytes that are not complete yet, for whoever reads on.
  const std::string& unfinished() const { return piece_; }

 private:
  std::string piece_;      // what has come since the last blank line
  bool too_long_ = false;  // the rest of this piece is dropped
  uint64_t skipped_ = 0;
};

// One event; nothing when the text is none.
std::optional<VmmEvent> ParseEvent(std::string_view text);

}  // namespace mayfly::ch
