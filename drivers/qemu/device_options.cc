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
std::string NicPort(std::string_view id) { return fmt::format("net-{}", id); }
std::string WireBackend(size_t wire) { return fmt::format("wire-{}", wire); }
std::string WirePort(size_t wire) { return fmt::format("port-{}", wire); }
std::string ZoneRoom(std::string_view id) { return fmt::format("room-{}", id); }
std::string ZoneDevice(std::string_view id) { return fmt::format("zone-{}", id); }
std::string ShareChannel(size_t number) { return fmt::format("share{}", number); }
std::string ShareDevice(size_t number) { return fmt::format("fs-{}", number); }
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

json NicPortOptions(const Nic& nic, const NicPlace& place) {
  return {{"type", "hubport"}, {"id", NicPort(nic.id)}, {"hubid", place.hub}};
}

std::vector<json> WireOptions(const Nic& nic, const NicPlace& place, const std::filesystem::path& directory,
                              const std::string& tap) {
  json backend;
  if (nic.kind == NicKind::kNat) {
    backend = {{"type", "user"}};
  } else if (nic.kind == NicKind::kSocket) {
    backend = {{"type", "dgram"},
               {"local", {{"type", "unix"}, {"path", (directory / fmt::format("nic-{}.sock", nic.id)).string()}}},
               {"remote", {{"type", "unix"}, {"path", nic.source}}}};
  } else if (nic.kind == NicKind::kTap) {
    backend = {{"type", "tap"}};
    if (!tap.empty()) {
      backend["fd"] = tap;
    } else {
      backend["script"] = backend["downscript"] = "no";
      if (!nic.source.empty()) backend["ifname"] = nic.source;
    }
  } else {
    return {};  // kNone; the driver refuses the other kinds before
  }
  backend["id"] = WireBackend(place.wire);
  json port = {
      {"type", "hubport"}, {"id", WirePort(place.wire)}, {"hubid", place.hub}, {"netdev", WireBackend(place.wire)}};
  return {std::move(backend), std::move(port)};
}

json NicDeviceOptions(const Nic& nic, const MachineType& machine) {
  json device = {{"driver", fmt::format("virtio-net-{}", machine.bus)},
                 {"id", NicDevice(nic.id)},
                 {"mac", nic.mac},
                 {"netdev", NicPort(nic.id)}};
  if (nic.mtu > 0) device["host_mtu"] = nic.mtu;
  return device;
}

bool CanGrow(const MemoryZone& zone) { return zone.max_size > zone.size; }

json ZoneDeviceOptions(const MemoryZone& zone, size_t node) {
  return {{"driver", "virtio-mem-pci"}, {"id", ZoneDevice(zone.id)}, {"memdev", ZoneRoom(zone.id)}, {"node", node}};
}

json ShareChannelOptions(size_t number, const std::filesystem::path& directory) {
  json address = {{"type", "unix"}, {"data", {{"path", ShareSocket(directory, number).string()}}}};
  return {{"id", ShareChannel(number)},
          {"backend", {{"type", "socket"}, {"data", {{"addr", std::move(address)}, {"server", false}}}}}};
}

json ShareDeviceOptions(const Share& share, size_t number, const MachineType& machine) {
  return {{"driver", fmt::format("vhost-user-fs-{}", machine.bus)},
          {"id", ShareDevice(number)},
          {"chardev", ShareChannel(number)},
          {"tag", share.tag}};
}

json VsockDeviceOptions(uint32_t cid, const std::string& vhost, const MachineType& machine) {
  json device = {{"driver", fmt::format("vhost-vsock-{}", machine.bus)}, {"id", "vsock"}, {"guest-cid", cid}};
  if (!vhost.empty()) device["vhostfd"] = vhost;
  return device;
}

std::string PassthroughDevice(std::string_view id) { return fmt::format("host-{}", id); }

json PassthroughDeviceOptions(const Passthrough& device) {
  bool is_path = device.path.find('/') != std::string::npos;
  return {{"driver", "vfio-pci"}, {"id", PassthroughDevice(device.id)}, {is_path ? "sysfsdev" : "host", device.path}};
}

std::filesystem::path TpmSocket(const std::filesystem::path& directory) { return directory / "tpm.sock"; }

std::string_view WatchdogActionName(WatchdogAction action) { return kWatchdogActions.at(static_cast<size_t>(action)); }

}  // namespace mayfly::internal
