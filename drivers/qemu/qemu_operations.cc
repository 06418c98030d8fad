// The optional operations of a machine run by QEMU.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/device_options.h"
#include "drivers/qemu/qemu_machine.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {

using nlohmann::json;

// QEMU tells STOP and RESUME before it answers, so the status is right when these return.
void QemuMachine::Pause() { Execute("stop", nullptr); }
void QemuMachine::Resume() { Execute("cont", nullptr); }
void QemuMachine::PowerButton() { Execute("system_powerdown", nullptr); }
void QemuMachine::InjectNmi() { Execute("inject-nmi", nullptr); }

void QemuMachine::SetBalloon(Bytes size) {
  if (!spec_.balloon) {
    throw BadSpec({.summary = fmt::format("'{}' has no balloon", name()), .next_step = "give its spec a balloon"});
  }
  if (size >= spec_.memory) {
    throw BadSpec({.summary = fmt::format("balloon: \"{}\" is all of the guest's memory ({})", ToString(size),
                                          ToString(spec_.memory))});
  }
  Execute("balloon", {{"value", (spec_.memory - size).count()}});
}

const PreparedDisk& QemuMachine::FindDisk(const std::string& id) const {
  auto disk = std::find_if(disks_.begin(), disks_.end(), [&](const PreparedDisk& d) { return d.disk.id == id; });
  if (disk != disks_.end()) return *disk;
  std::string known;
  for (const PreparedDisk& d : disks_) known += (known.empty() ? "" : ", ") + d.disk.id;
  throw BadSpec({.summary = fmt::format("'{}' has no disk \"{}\"; it has: {}", name(), id, known)});
}

std::string QemuMachine::DiskOfDevice(const std::string& device) const {
  for (const PreparedDisk& disk : disks_) {
    if (DiskNode(disk.disk.id) == device || DiskDevice(disk.disk.id) == device) return disk.disk.id;
  }
  return device;
}

void QemuMachine::ResizeDisk(const std::string& id, Bytes size) {
  const PreparedDisk& disk = FindDisk(id);
  if (disk.readonly) throw BadSpec({.summary = fmt::format("disk '{}' is read-only: it cannot grow", id)});
  for (const json& node : Execute("query-named-block-nodes", {{"flat", true}})) {
    if (node.value("node-name", "") != DiskNode(id)) continue;
    Bytes is(node.at("image").at("virtual-size").get<uint64_t>());
    if (size < is) {
      throw BadSpec(
          {.summary = fmt::format("disk '{}': size: \"{}\" is less than the {} that it has; a disk can only grow", id,
                                  ToString(size), ToString(is))});
    }
  }
  try {
    Execute("block_resize", {{"node-name", DiskNode(id)}, {"size", size.count()}});
  } catch (const QmpError& error) {
    throw BadSpec(
        {.summary = fmt::format("disk '{}' cannot have {}", id, ToString(size)), .notes = {error.description()}});
  }
}

void QemuMachine::SetRateLimit(const std::string& id, const RateLimit& limit) {
  const PreparedDisk& disk = FindDisk(id);
  if (!NeedsThrottle(disk.disk)) {
    throw BadSpec({.summary = fmt::format("disk '{}' was booted without a limit, so none can be set", id),
                   .next_step = "give it one in the spec, however high"});
  }
  Execute("qom-set",
          {{"path", "/objects/" + DiskThrottle(id)}, {"property", "limits"}, {"value", ThrottleLimits(limit)}});
}

std::map<std::string, std::map<std::string, uint64_t>> QemuMachine::Counters() {
  constexpr std::array<std::pair<const char*, const char*>, 5> kNames = {{{"rd_bytes", "read_bytes"},
                                                                          {"wr_bytes", "written_bytes"},
                                                                          {"rd_operations", "reads"},
                                                                          {"wr_operations", "writes"},
                                                                          {"flush_operations", "flushes"}}};
  std::map<std::string, std::map<std::string, uint64_t>> counters;
  for (const json& device : Execute("query-blockstats", nullptr)) {
    for (const PreparedDisk& disk : disks_) {
      if (device.value("node-name", "") != DiskNode(disk.disk.id)) continue;
      for (const auto& [qemu, ours] : kNames)
        counters[disk.disk.id][ours] = device.at("stats").at(qemu).get<uint64_t>();
    }
  }
  return counters;
}

void QemuMachine::Screenshot(const std::filesystem::path& png) {
  if (!spec_.graphics) {
    throw BadSpec({.summary = fmt::format("'{}' has no display", name()), .next_step = "give its spec graphics"});
  }
  Execute("screendump", {{"filename", std::filesystem::absolute(png).string()}, {"format", "png"}});
}

void QemuMachine::CoreDump(const std::filesystem::path& file) {
  Execute("dump-guest-memory", {{"paging", false}, {"protocol", "file:" + std::filesystem::absolute(file).string()}});
}

}  // namespace mayfly::internal
