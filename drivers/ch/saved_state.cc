#include "drivers/ch/saved_state.h"

#include <fmt/format.h>
#include <mayfly/errors.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace mayfly::ch {
namespace {

using nlohmann::json;

// What Cloud Hypervisor calls the one zone of a machine whose configuration has none.
constexpr const char* kOnlyZone = "mem0";

json Parse(const std::string& text, const char* file) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    throw BadSpec({.summary = fmt::format("the snapshot is damaged: its {} is no JSON object", file)});
  }
  return value;
}

struct Range {
  uint64_t length = 0;
  uint64_t offset = 0;  // in memory-ranges
};

// By guest address.
std::map<uint64_t, Range> RangesOf(const json& memory) {
  std::map<uint64_t, Range> ranges;
  uint64_t offset = 0;
  for (const json& range : memory.at("memory_ranges").at("data")) {
    auto length = range.at("length").get<uint64_t>();
    ranges[range.at("gpa").get<uint64_t>()] = {.length = length, .offset = offset};
    offset += length;
  }
  return ranges;
}

// False when a piece of the guest's memory is not all of one range.
bool PlaceMappings(json& memory) {
  const std::map<uint64_t, Range> ranges = RangesOf(memory);
  json& mappings = memory.at("guest_ram_mappings");
  if (mappings.size() != ranges.size()) return false;
  for (json& mapping : mappings) {
    auto range = ranges.find(mapping.at("gpa").get<uint64_t>());
    if (range == ranges.end() || range->second.length != mapping.at("size").get<uint64_t>()) return false;
    if (mapping.at("virtio_mem").get<bool>()) return false;
    mapping.at("file_offset") = range->second.offset;
  }
  memory.at("memory_ranges").at("data") = json::array();
  return true;
}

// The members that `value` has replace those of `out`; what it leaves out is Cloud Hypervisor's own choice.
void Replace(json& out, const json& value) {
  for (const auto& [key, member] : value.items()) out[key] = member;
}

// Those of the copy in the place of the saved ones that have their ids. `dropped`: what the copy does not take over
// when it does not say it itself.
void ReplaceById(json& saved, const json& copy, const char* dropped) {
  if (!saved.is_array()) return;
  for (json& device : saved) {
    for (const json& other : copy) {
      if (other.value("id", "") != device.value("id", "")) continue;
      if (dropped != nullptr) device.erase(dropped);
      Replace(device, other);
    }
  }
}

void PutMemoryInto(json& config, const std::string& file) {
  json& memory = config.at("memory");
  json& zones = memory["zones"];
  if (!zones.is_array() || zones.empty()) {
    zones = json::array({{{"id", kOnlyZone}, {"size", memory.at("size")}}});
    memory["size"] = 0;
  }
  for (json& zone : zones) {
    zone["file"] = file;
    zone["shared"] = false;
  }
}

}  // namespace

std::optional<std::string> StateOfSharedMemory(const std::string& text) {
  json state = Parse(text, kStateFile);
  try {
    json& saved = state.at("snapshots").at("memory-manager").at("snapshot_data").at("state");
    json memory = json::parse(saved.get_ref<const std::string&>());
    if (!PlaceMappings(memory)) return std::nullopt;
    saved = memory.dump();
    return state.dump();
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

std::string ConfigOfCopy(const std::string& text, const VmConfig& copy, const std::filesystem::path& memory) {
  json config = Parse(text, kConfigFile);
  const json own = ToJson(copy);
  try {
    if (own.contains("payload")) config["payload"] = own.at("payload");
    if (own.contains("disks")) ReplaceById(config["disks"], own.at("disks"), nullptr);
    // The name of a TAP device that the VMM made belongs to the other guest.
    if (own.contains("net")) ReplaceById(config["net"], own.at("net"), "tap");
    if (own.contains("vsock") && config["vsock"].is_object()) Replace(config["vsock"], own.at("vsock"));
    if (!memory.empty()) PutMemoryInto(config, memory.string());
    return config.dump();
  } catch (const json::exception& error) {
    throw BadSpec({.summary = fmt::format("the snapshot is damaged: its {}: {}", kConfigFile, error.what())});
  }
}

}  // namespace mayfly::ch
