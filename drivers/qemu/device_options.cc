#include "drivers/qemu/device_options.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

using nlohmann::json;

// What a cache mode is for QEMU's block layer. `write_cache`: the guest sees a volatile cache and flushes it.
struct CacheRow {
  bool direct;
  bool no_flush;
  bool write_cache;
};
constexpr std::array<CacheRow, 4> kCacheRows = {{
    {false, true, true},    // kUnsafe
    {false, false, true},   // kWriteback
    {true, false, true},    // kNone
    {false, false, false},  // kWritethrough
}};

constexpr std::array<std::string_view, 4> kWatchdogActions = {"reset", "poweroff", "pause", "none"};

const CacheRow& CacheOf(const Disk& disk) { return kCacheRows.at(static_cast<size_t>(disk.cache)); }

}  // namespace

std::string DiskDevice(std::string_view id) { return fmt::format("disk-{}", id); }
std::string DiskNode(std::string_view id) { return fmt::format("image-{}", id); }
std::string DiskThrottle(std::string_view id) { return fmt::format("limit-{}", id); }
std::string NicDevice(std::string_view id) { return fmt::format("nic-{}", id); }
std::string NicBackend(std::string_view id) { return fmt::format("net-{}", id); }
std::string HotplugSlot(size_t index) { return fmt::format("slot-{}", index); }

bool NeedsThrottle(const Disk& disk) { return disk.limit != RateLimit{}; }

json ThrottleLimits(const RateLimit& limit) {
  return {{"bps-total", limit.bytes_per_second.count()}, {"iops-total", limit.operations_per_second}};
}

json ThrottleGroup(std::string_view id, const RateLimit& limit) {
  return {{"qom-type", "throttle-group"}, {"id", DiskThrottle(id)}, {"limits", ThrottleLimits(limit)}};
}

json BlockNode(const PreparedDisk& disk) {
  const CacheRow& row = CacheOf(disk.disk);
  json cache = {{"direct", row.direct}, {"no-flush", row.no_flush}};
  json node = {{"driver", disk.format == DiskFormat::kQcow2 ? "qcow2" : "raw"},
               {"read-only", disk.readonly},
               {"cache", cache},
               {"file", {{"driver", "file"}, {"filename", disk.path.string()}, {"cache", cache}}}};
  // A guest's discard gives space back to the host.
  if (!disk.readonly) node["discard"] = node["file"]["discard"] = "unmap";
  if (NeedsThrottle(disk.disk)) {
    node = {{"driver", "throttle"},
            {"throttle-group", DiskThrottle(disk.disk.id)},
            {"read-only", disk.readonly},
            {"cache", cache},
            {"file", node}};
    if (!disk.readonly) node["discard"] = "unmap";
  }
  node["node-name"] = DiskNode(disk.disk.id);
  return node;
}

json DiskDeviceOptions(const PreparedDisk& disk, const MachineType& machine) {
  // A host that runs full is no error of the guest's disk: the machine stops and the driver tells (BLOCK_IO_ERROR).
  json device = {{"driver", fmt::format("virtio-blk-{}", machine.bus)},
                 {"id", DiskDevice(disk.disk.id)},
                 {"drive", DiskNode(disk.disk.id)},
                 {"serial", disk.disk.id},
                 {"write-cache", CacheOf(disk.disk).write_cache ? "on" : "off"},
                 {"werror", "enospc"}};
  if (disk.disk.usb) {
    device["driver"] = "usb-storage";
    device["bus"] = "usb.0";
  }
  return device;
}

json NetworkBackend(const Nic& nic, const std::filesystem::path& directory) {
  std::string id = NicBackend(nic.id);
  if (nic.kind == NicKind::kNat) return {{"type", "user"}, {"id", id}};
  if (nic.kind == NicKind::kSocket) {
    return {{"type", "dgram"},
            {"id", id},
            {"local", {{"type", "unix"}, {"path", (directory / fmt::format("nic-{}.sock", nic.id)).string()}}},
            {"remote", {{"type", "unix"}, {"path", nic.source}}}};
  }
  return nullptr;  // kNone; the driver refuses the other kinds before
}

json NicDeviceOptions(const Nic& nic, const MachineType& machine) {
  json device = {{"driver", fmt::format("virtio-net-{}", machine.bus)}, {"id", NicDevice(nic.id)}, {"mac", nic.mac}};
  if (nic.kind != NicKind::kNone) device["netdev"] = NicBackend(nic.id);
  if (nic.mtu > 0) device["host_mtu"] = nic.mtu;
  return device;
}

std::filesystem::path TpmSocket(const std::filesystem::path& directory) { return directory / "tpm.sock"; }

std::string_view WatchdogActionName(WatchdogAction action) { return kWatchdogActions.at(static_cast<size_t>(action)); }

}  // namespace mayfly::internal
