// Devices, vCPUs and memory that come and go while a machine runs.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/virtiofsd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/device_options.h"
#include "drivers/qemu/qemu_machine.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {
namespace {

using nlohmann::json;

// Linux takes memory in blocks of this size.
constexpr Bytes kMemoryBlock(uint64_t{128} << 20);

// A place for a vCPU: where it is in the topology, and its object when it is there.
struct CpuPlace {
  json place;
  std::string type;
  std::string path;
};

auto Order(const json& place) {
  return std::tuple(place.value("socket-id", 0), place.value("die-id", 0), place.value("core-id", 0),
                    place.value("thread-id", 0));
}

}  // namespace

void QemuMachine::RequireHotplug(Capability capability) const {
  if (machine_.type->hotplug_slots > 0) return;
  throw Unsupported(
      capability, driver(),
      fmt::format("{} has no hotplug; \"machine\": \"pc\" in the spec gives one that has", machine_.type->name));
}

void QemuMachine::RequireNewId(const std::string& id) const {
  bool taken =
      std::any_of(disks_.begin(), disks_.end(), [&](const PreparedDisk& d) { return d.disk.id == id; }) ||
      std::any_of(spec_.nics.begin(), spec_.nics.end(), [&](const Nic& n) { return n.id == id; }) ||
      std::any_of(spec_.shares.begin(), spec_.shares.end(), [&](const Share& s) { return s.tag == id; }) ||
      std::any_of(spec_.passthrough.begin(), spec_.passthrough.end(), [&](const Passthrough& p) { return p.id == id; });
  if (taken || id.empty()) {
    throw BadSpec(
        {.summary = fmt::format("'{}': id: \"{}\" is {}", name(), id, taken ? "taken by another device" : "empty")});
  }
}

// Takes a free slot for a device that does not say where it is plugged in; when QEMU refuses it, `undo` takes back what
// was made for it.
void QemuMachine::PlugIn(const std::string& id, json device, const std::vector<QmpCommand>& undo) {
  bool needs_slot = !device.contains("bus");
  auto slot = std::find(slots_.begin(), slots_.end(), std::string());
  try {
    if (needs_slot && slot == slots_.end()) {
      throw BadSpec({.summary = fmt::format("'{}' has no free slot: {} devices have been added", name(), slots_.size()),
                     .next_step = "RemoveDevice() one, or have more from the start in the spec"});
    }
    if (needs_slot) device["bus"] = HotplugSlot(static_cast<size_t>(slot - slots_.begin()));
    Execute("device_add", device);
  } catch (Error&) {
    Undo(undo);
    throw;
  }
  if (needs_slot) *slot = id;
  plugged_.push_back(id);
}

void QemuMachine::Undo(const std::vector<QmpCommand>& commands) {
  for (const QmpCommand& command : commands) Execute(command.name, command.arguments);
}

void QemuMachine::AddShare(const Share& share) {
  RequireHotplug(Capability::kShareHotplug);
  if (start_.memory.kind == MemoryKind::kPrivate) {
    throw Unsupported(Capability::kShareHotplug, driver(),
                      "the memory of a copy is its own, and no virtiofsd reaches it; boot the VM instead");
  }
  RequireNewId(share.tag);
  MachineSpec asked;
  asked.shares = spec_.shares;
  asked.shares.push_back(share);
  Validate(asked, fmt::format("'{}'", name()));
  const size_t number = next_share_++;
  std::unique_ptr<Process> server = ServeShare(sandbox_, share, ShareSocket(sandbox_.directory(), number));
  Execute("chardev-add", ShareChannelOptions(number, sandbox_.directory()));
  PlugIn(share.tag, ShareDeviceOptions(share, number, *machine_.type),
         {{"chardev-remove", {{"id", ShareChannel(number)}}}});
  process_->AddServer(std::move(server));
  share_numbers_[share.tag] = number;
  spec_.shares.push_back(share);  // it is there at the next boot, too
}

void QemuMachine::AddDisk(const Disk& disk) {
  RequireHotplug(Capability::kStorageHotplug);
  RequireNewId(disk.id);
  if (disk.usb && !spec_.usb) {
    throw BadSpec({.summary = fmt::format("'{}' has no USB controller for disk '{}'", name(), disk.id),
                   .next_step = "give its spec \"usb\": true"});
  }
  PreparedDisk prepared = PrepareDisk(disk, sandbox_.directory());
  std::vector<QmpCommand> undo = {{"blockdev-del", {{"node-name", DiskNode(disk.id)}}}};
  try {
    if (NeedsThrottle(disk)) {
      Execute("object-add", ThrottleGroup(disk.id, disk.limit));
      undo.push_back({"object-del", {{"id", DiskThrottle(disk.id)}}});
    }
    Execute("blockdev-add", BlockNode(prepared));
    PlugIn(disk.id, DiskDeviceOptions(prepared, *machine_.type), undo);
  } catch (Error&) {
    DiscardDisk(prepared, sandbox_.directory());
    throw;
  }
  disks_.push_back(prepared);  // it is there at the next boot, too
}

void QemuMachine::RemoveDevice(const std::string& id) {
  RequireHotplug(Capability::kDeviceRemove);
  auto plugged = std::find(plugged_.begin(), plugged_.end(), id);
  if (plugged == plugged_.end()) {
    throw BadSpec({.summary = fmt::format("'{}': no device \"{}\" was added while it ran; only those can be removed",
                                          name(), id)});
  }
  auto is_it = [&](const auto& device) { return device.id == id; };
  bool is_nic = std::any_of(spec_.nics.begin(), spec_.nics.end(), is_it);
  bool is_share = share_numbers_.contains(id);
  bool is_host_device = std::any_of(spec_.passthrough.begin(), spec_.passthrough.end(), is_it);
  std::string device = DiskDevice(id);
  if (is_nic) device = NicDevice(id);
  if (is_share) device = ShareDevice(share_numbers_.at(id));
  if (is_host_device) device = PassthroughDevice(id);
  Unplug(device, fmt::format("device '{}'", id));
  plugged_.erase(plugged);
  std::replace(slots_.begin(), slots_.end(), id, std::string());
  if (is_share) {
    ForgetShare(id);
  } else if (is_nic) {
    ForgetNic(id);
  } else if (is_host_device) {
    std::erase_if(spec_.passthrough, is_it);
  } else {
    ForgetDisk(id);
  }
}

void QemuMachine::ForgetDisk(const std::string& id) {
  auto disk = std::find_if(disks_.begin(), disks_.end(), [&](const PreparedDisk& d) { return d.disk.id == id; });
  Execute("blockdev-del", {{"node-name", DiskNode(id)}});
  if (NeedsThrottle(disk->disk)) Execute("object-del", {{"id", DiskThrottle(id)}});
  DiscardDisk(*disk, sandbox_.directory());  // so that its id is free again
  disks_.erase(disk);
}

// Its virtiofsd ends with its connection.
void QemuMachine::ForgetShare(const std::string& tag) {
  Execute("chardev-remove", {{"id", ShareChannel(share_numbers_.at(tag))}});
  share_numbers_.erase(tag);
  std::erase_if(spec_.shares, [&](const Share& share) { return share.tag == tag; });
}

// Asks the guest to let go of a device (its id or its path in QEMU's object tree) and waits until it has.
void QemuMachine::Unplug(const std::string& device, const std::string& what) {
  size_t from = timeline_.size();
  Execute("device_del", {{"id", device}});
  auto about_it = [&](const Event& event) {
    return event.source == "qemu" && (event.name == "DEVICE_DELETED" || event.name == "DEVICE_UNPLUG_GUEST_ERROR") &&
           event.detail.find("\"" + device + "\"") != std::string::npos;
  };
  Duration allowance = Scaled(std::chrono::seconds(30));
  auto answer = timeline_.WaitFor(about_it, Deadline::After(allowance), from);
  if (!answer) {
    throw Timeout(
        {.summary = fmt::format("'{}': the guest did not let go of {} in {}", name(), what, ForPeople(allowance)),
         .next_step = "unmount it and end its users in the guest first"});
  }
  if (answer->name != "DEVICE_DELETED") {
    throw GuestFailed({.summary = fmt::format("'{}': the guest refused to let go of {}", name(), what)});
  }
}

void QemuMachine::ResizeCpus(uint32_t cpus) {
  if (cpus < 1 || cpus > std::max(spec_.cpus, spec_.max_cpus)) {
    throw BadSpec({.summary = fmt::format("'{}': cpus: {} is not allowed; allowed: 1 to {} (max_cpus of its spec)",
                                          name(), cpus, std::max(spec_.cpus, spec_.max_cpus))});
  }
  std::vector<CpuPlace> present;
  std::vector<CpuPlace> free;
  for (const json& place : Execute("query-hotpluggable-cpus", nullptr)) {
    CpuPlace cpu{place.at("props"), place.at("type").get<std::string>(), place.value("qom-path", "")};
    (cpu.path.empty() ? free : present).push_back(std::move(cpu));
  }
  auto by_place = [](const CpuPlace& a, const CpuPlace& b) { return Order(a.place) < Order(b.place); };
  std::sort(free.begin(), free.end(), by_place);
  std::sort(present.begin(), present.end(), by_place);
  size_t count = present.size();
  for (size_t i = 0; count < cpus && i < free.size(); ++i, ++count) {
    json device = free[i].place;
    device["driver"] = free[i].type;
    device["id"] = fmt::format("cpu-{}-{}-{}-{}", std::get<0>(Order(device)), std::get<1>(Order(device)),
                               std::get<2>(Order(device)), std::get<3>(Order(device)));
    Execute("device_add", device);
  }
  if (count > cpus && !accelerator_.kvm) {
    throw Unsupported(Capability::kCpuHotplug, driver(),
                      "vCPUs are added but not taken away in software emulation: QEMU 7.2 leaves one half removed and "
                      "crashes at the next reset");
  }
  for (; count > cpus; --count) Unplug(present[count - 1].path, fmt::format("vCPU {}", count - 1));
}

void QemuMachine::ResizeMemory(Bytes memory) {
  Bytes now = spec_.memory;
  for (const auto& [id, size] : dimms_) now = now + size;
  Bytes most = std::max(spec_.memory, spec_.max_memory);
  if (memory < spec_.memory || memory > most) {
    throw BadSpec(
        {.summary = fmt::format("'{}': memory: \"{}\" is not allowed; allowed: {} to {} (max_memory of its spec)",
                                name(), ToString(memory), ToString(spec_.memory), ToString(most))});
  }
  while (memory < now && memory + dimms_.back().second <= now) {
    auto [id, size] = dimms_.back();
    Unplug(id, fmt::format("{} of memory", ToString(size)));
    Execute("object-del", {{"id", "memory-" + id}});
    dimms_.pop_back();
    now = now - size;
  }
  if (memory < now) {
    throw BadSpec({.summary = fmt::format(
                       "'{}': memory: \"{}\" cannot be reached: memory is taken away in the pieces in which it "
                       "was added, the last one first; now: {}",
                       name(), ToString(memory), ToString(now))});
  }
  if (memory == now) return;
  Bytes more = memory - now;
  if (more.count() % kMemoryBlock.count() != 0) {
    throw BadSpec(
        {.summary = fmt::format("'{}': memory: \"{}\" is {} more than now; guests take memory in pieces of {}", name(),
                                ToString(memory), ToString(more), ToString(kMemoryBlock))});
  }
  std::string id = fmt::format("dimm-{}", dimms_.size());
  // As all memory of this machine type: see IsMemoryServed.
  Execute("object-add",
          {{"qom-type", "memory-backend-memfd"}, {"id", "memory-" + id}, {"size", more.count()}, {"share", true}});
  try {
    Execute("device_add", {{"driver", "pc-dimm"}, {"id", id}, {"memdev", "memory-" + id}});
  } catch (Error&) {
    Execute("object-del", {{"id", "memory-" + id}});
    throw;
  }
  dimms_.emplace_back(id, more);
}

// There is one, and it stays: nothing in a spec names it.
void QemuMachine::AddVsock(const Vsock& vsock) {
  RequireHotplug(Capability::kIntervmVsockHotplug);
  if (spec_.vsock) throw BadSpec({.summary = fmt::format("'{}' has a vsock already", name())});
  GuestVsock reserved = ReserveVsock(vsock.cid);
  constexpr const char* kDescriptor = "vsock";
  process_->qmp().Execute("getfd", {{"fdname", kDescriptor}}, Deadline::After(Scaled(std::chrono::seconds(30))),
                          std::move(reserved.vhost));
  PlugIn(/*id=*/"the vsock", VsockDeviceOptions(reserved.cid, kDescriptor, *machine_.type), {});
  vsock_ = std::move(reserved);
  spec_.vsock = vsock;  // it is there at the next boot, too
}

UniqueFd QemuMachine::ConnectVsock(uint32_t port) {
  if (!process_ || vsock_.cid == 0) {
    throw BadSpec({.summary = fmt::format("'{}' has no running vsock", name()), .next_step = "give its spec a vsock"});
  }
  return ConnectToGuest(vsock_.cid, port, Scaled(std::chrono::seconds(10)));
}

UniqueFd QemuMachine::ListenVsock(uint32_t port) { return ListenForGuests(port); }

void QemuMachine::AddPassthrough(const Passthrough& device) {
  RequireHotplug(Capability::kPassthroughHotplug);
  RequireNewId(device.id);
  MachineSpec asked;
  asked.passthrough.push_back(device);
  RefuseWhatIsNotOffered(asked);
  Validate(asked, fmt::format("'{}'", name()));
  PlugIn(device.id, PassthroughDeviceOptions(device), {});
  spec_.passthrough.push_back(device);  // it is there at the next boot, too
}

void QemuMachine::ResizeZone(const std::string& id, Bytes size) {
  auto zone =
      std::find_if(spec_.zones.begin(), spec_.zones.end(), [&](const MemoryZone& each) { return each.id == id; });
  if (zone == spec_.zones.end()) {
    std::string known;
    for (const MemoryZone& each : spec_.zones) known += (known.empty() ? "" : ", ") + each.id;
    throw BadSpec({.summary = fmt::format("'{}' has no zone \"{}\"; it has: {}", name(), id, known)});
  }
  Bytes most = std::max(zone->size, zone->max_size);
  if (size < zone->size || size > most || (size - zone->size).count() % kZoneBlock.count() != 0) {
    throw BadSpec(
        {.summary = fmt::format("'{}': zone '{}': \"{}\" is not allowed; allowed: {} to {}, in pieces of {}", name(),
                                id, ToString(size), ToString(zone->size), ToString(most), ToString(kZoneBlock))});
  }
  if (!CanGrow(*zone)) return;
  Execute("qom-set", {{"path", "/machine/peripheral/" + ZoneDevice(id)},
                      {"property", "requested-size"},
                      {"value", (size - zone->size).count()}});
}

}  // namespace mayfly::internal
