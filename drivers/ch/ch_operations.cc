// The optional operations of a machine run by Cloud Hypervisor.
#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/unix_address.h>
#include <mayfly/internal/unix_listener.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <system_error>
#include <utility>

#include "drivers/ch/capabilities.h"
#include "drivers/ch/ch_ask.h"
#include "drivers/ch/spec_config.h"

namespace mayfly::ch {

Api& ChMachine::Running(const char* what) {
  if (!process_ || !IsUp(status())) {
    throw BadSpec({.summary = fmt::format("'{}' (ch) cannot {}: it is {}", name(), what, ToString(status().state)),
                   .notes = {status().reason},
                   .next_step = "Boot() it first"});
  }
  return process_->api();
}

void ChMachine::AwaitEvent(size_t from, const std::string& event_name, const std::string& detail,
                           const std::string& what) {
  Duration allowance = Scaled(patience_.guest);
  auto is_it = [&](const Event& event) {
    return event.source == "ch" && event.name == event_name && event.detail.find(detail) != std::string::npos;
  };
  if (timeline_.WaitFor(is_it, Deadline::After(allowance), from)) return;
  throw Timeout(
      {.summary = fmt::format("'{}' (ch): {} did not come to pass in {}", name(), what, ForPeople(allowance))});
}

void ChMachine::Pause() {
  size_t from = timeline_.size();
  Ask("pause", [this](Api& api) { api.Pause(CallDeadline()); });
  AwaitEvent(from, "paused", "", "the pause");
}

void ChMachine::Resume() {
  size_t from = timeline_.size();
  Ask("resume", [this](Api& api) { api.Resume(CallDeadline()); });
  AwaitEvent(from, "resumed", "", "the end of the pause");
}

void ChMachine::PowerButton() {
  Ask("press the power button of", [this](Api& api) { api.PowerButton(CallDeadline()); });
}

void ChMachine::InjectNmi() {
  Ask("send an NMI to", [this](Api& api) { api.Nmi(CallDeadline()); });
}

void ChMachine::CoreDump(const std::filesystem::path& file) {
  try {
    Ask("dump the memory of", [&](Api& api) { api.CoreDump(file, CallDeadline()); });
  } catch (const ApiError& error) {
    constexpr unsigned kNoSuchEndpoint = 404;
    if (error.status() != kNoSuchEndpoint) throw;
    throw Unsupported(Capability::kDebugCoredump, driver(), "this Cloud Hypervisor was built without guest_debug");
  }
}

void ChMachine::ResizeCpus(uint32_t cpus) {
  uint32_t most = std::max(spec_.cpus, spec_.max_cpus);
  if (cpus < 1 || cpus > most) {
    throw BadSpec({.summary = fmt::format("'{}': cpus: {} is not allowed; allowed: 1 to {} (max_cpus of its spec)",
                                          name(), cpus, most)});
  }
  Ask("resize", [&](Api& api) {
    api.ResizeVm({.desired_vcpus = cpus}, CallDeadline());
    // Answered by 429, and asked again by the client, while the guest has not let go of a vCPU.
    api.ResizeVm({.desired_vcpus = cpus}, CallDeadline());
  });
}

void ChMachine::ResizeMemory(Bytes memory) {
  Bytes most = std::max(spec_.memory, spec_.max_memory);
  if (memory < spec_.memory || memory > most) {
    throw BadSpec(
        {.summary = fmt::format("'{}': memory: \"{}\" is not allowed; allowed: {} to {} (max_memory of its spec)",
                                name(), ToString(memory), ToString(spec_.memory), ToString(most))});
  }
  Ask("resize", [&](Api& api) { api.ResizeVm({.desired_ram = memory.count()}, CallDeadline()); });
}

void ChMachine::ResizeZone(const std::string& id, Bytes size) {
  auto zone = std::find_if(spec_.zones.begin(), spec_.zones.end(), [&](const MemoryZone& z) { return z.id == id; });
  if (zone == spec_.zones.end()) throw BadSpec({.summary = fmt::format("'{}' has no zone \"{}\"", name(), id)});
  if (size < zone->size || size > std::max(zone->size, zone->max_size)) {
    throw BadSpec(
        {.summary = fmt::format("'{}': zone '{}': \"{}\" is not allowed; allowed: {} to {}", name(), id, ToString(size),
                                ToString(zone->size), ToString(std::max(zone->size, zone->max_size)))});
  }
  Ask("resize", [&](Api& api) { api.ResizeZone(id, size.count(), CallDeadline()); });
}

void ChMachine::SetBalloon(Bytes size) {
  if (!spec_.balloon) {
    throw BadSpec({.summary = fmt::format("'{}' has no balloon", name()), .next_step = "give its spec a balloon"});
  }
  if (size >= spec_.memory) {
    throw BadSpec({.summary = fmt::format("balloon: \"{}\" is all of the guest's memory ({})", ToString(size),
                                          ToString(spec_.memory))});
  }
  Ask("resize", [&](Api& api) { api.ResizeVm({.desired_balloon = size.count()}, CallDeadline()); });
}

void ChMachine::RequireNewId(const std::string& id) const {
  bool taken =
      std::any_of(disks_.begin(), disks_.end(), [&](const internal::PreparedDisk& d) { return d.disk.id == id; }) ||
      std::any_of(spec_.nics.begin(), spec_.nics.end(), [&](const Nic& n) { return n.id == id; }) ||
      std::any_of(spec_.shares.begin(), spec_.shares.end(), [&](const Share& s) { return s.tag == id; }) ||
      std::any_of(spec_.pmem.begin(), spec_.pmem.end(), [&](const Pmem& p) { return p.id == id; }) ||
      std::any_of(spec_.passthrough.begin(), spec_.passthrough.end(), [&](const Passthrough& p) { return p.id == id; });
  if (taken || id.empty()) {
    throw BadSpec(
        {.summary = fmt::format("'{}': id: \"{}\" is {}", name(), id, taken ? "taken by another device" : "empty")});
  }
}

void ChMachine::AddDisk(const Disk& disk) {
  RequireNewId(disk.id);
  internal::PreparedDisk prepared = internal::PrepareDisk(disk, sandbox_.directory());
  try {
    Ask("add a disk to", [&](Api& api) { api.AddDisk(ConfigOf(prepared), CallDeadline()); });
  } catch (Error&) {
    internal::DiscardDisk(prepared, sandbox_.directory());
    throw;
  }
  disks_.push_back(std::move(prepared));  // it is there at the next boot, too
  added_.insert(disk.id);
}

void ChMachine::ResizeDisk(const std::string& id, Bytes size) {
  auto disk =
      std::find_if(disks_.begin(), disks_.end(), [&](const internal::PreparedDisk& d) { return d.disk.id == id; });
  if (disk == disks_.end()) throw BadSpec({.summary = fmt::format("'{}' has no disk \"{}\"", name(), id)});
  if (disk->readonly) throw BadSpec({.summary = fmt::format("disk '{}' is read-only: it cannot grow", id)});
  if (disk->format == DiskFormat::kRaw && size.count() < std::filesystem::file_size(disk->path)) {
    throw BadSpec({.summary = fmt::format("disk '{}': size: \"{}\" is less than it has; a disk can only grow", id,
                                          ToString(size))});
  }
  Ask("resize a disk of", [&](Api& api) { api.ResizeDisk(id, size.count(), CallDeadline()); });
}

void ChMachine::AddNic(const Nic& nic) {
  RequireNewId(nic.id);
  MachineSpec asked;
  asked.nics.push_back(nic);
  RefuseWhatIsNotOffered(asked);
  Nic added = nic;
  if (added.mac.empty()) added.mac = internal::RandomMac();
  Ask("add a NIC to", [&](Api& api) { api.AddNet(ConfigOf(added), CallDeadline()); });
  spec_.nics.push_back(std::move(added));
  added_.insert(nic.id);
}

void ChMachine::AddShare(const Share& share) {
  RequireNewId(share.tag);
  if (!HasSharedMemory(spec_) || shares_memory_) {
    throw Unsupported(Capability::kShareHotplug, driver(),
                      shares_memory_
                          ? "the memory of a copy is its own, and virtiofsd has to share it"
                          : "its memory is not shared with other processes: give its spec \"machine\": \"pc\"");
  }
  Running("add a share to");
  const size_t index = next_share_++;
  added_servers_.push_back(ServeShare(share, index));
  Ask("add a share to", [&](Api& api) {
    api.AddFs(ConfigOf(share, internal::ShareSocket(sandbox_.directory(), index)), CallDeadline());
  });
  spec_.shares.push_back(share);  // it is there at the next boot, too
  added_.insert(share.tag);
}

void ChMachine::AddPmem(const Pmem& pmem) {
  RequireNewId(pmem.id);
  Ask("add persistent memory to", [&](Api& api) { api.AddPmem(ConfigOf(pmem), CallDeadline()); });
  spec_.pmem.push_back(pmem);
  added_.insert(pmem.id);
}

void ChMachine::AddPassthrough(const Passthrough& device) {
  RequireNewId(device.id);
  if (device.kind != PassthroughKind::kVfio && (!HasSharedMemory(spec_) || shares_memory_)) {
    throw Unsupported(Capability::kPassthroughHotplug, driver(),
                      "its memory is not shared with other processes: give its spec \"machine\": \"pc\"");
  }
  Ask("add a device to", [&](Api& api) {
    switch (device.kind) {
      case PassthroughKind::kVfio:
        return api.AddDevice(VfioConfigOf(device), CallDeadline());
      case PassthroughKind::kVdpa:
        return api.AddVdpa(VdpaConfigOf(device), CallDeadline());
      case PassthroughKind::kVfioUser:
        return api.AddUserDevice(VfioUserConfigOf(device), CallDeadline());
    }
    return std::optional<PciDevice>();
  });
  spec_.passthrough.push_back(device);
  added_.insert(device.id);
}

TapEnd ChMachine::HostEndOf(const std::string& nic) const {
  auto found = std::find_if(spec_.nics.begin(), spec_.nics.end(), [&](const Nic& each) { return each.id == nic; });
  if (found != spec_.nics.end()) return {.device = TapOf(*found)};
  throw BadSpec({.summary = fmt::format("'{}' has no NIC \"{}\"", name(), nic)});
}

void ChMachine::RemoveDevice(const std::string& id) {
  if (added_.count(id) == 0) {
    throw BadSpec({.summary = fmt::format("'{}': no device \"{}\" was added while it ran; only those can be removed",
                                          name(), id)});
  }
  size_t from = timeline_.size();
  Ask("remove a device of", [&](Api& api) { api.RemoveDevice(id, CallDeadline()); });
  AwaitEvent(from, "device-removed", "id=" + id, fmt::format("the guest's leave of device '{}'", id));
  added_.erase(id);
  auto disk =
      std::find_if(disks_.begin(), disks_.end(), [&](const internal::PreparedDisk& d) { return d.disk.id == id; });
  if (disk != disks_.end()) {
    internal::DiscardDisk(*disk, sandbox_.directory());  // so that its id is free again
    disks_.erase(disk);
  }
  std::erase_if(spec_.nics, [&](const Nic& nic) { return nic.id == id; });
  std::erase_if(spec_.shares, [&](const Share& share) { return share.tag == id; });
  std::erase_if(spec_.pmem, [&](const Pmem& pmem) { return pmem.id == id; });
  std::erase_if(spec_.passthrough, [&](const Passthrough& device) { return device.id == id; });
}

internal::UniqueFd ChMachine::ConnectVsock(uint32_t port) {
  Running("connect to");
  std::string request = fmt::format("CONNECT {}\n", port);
  const sockaddr_un address = internal::UnixAddress(sandbox_.Path(kVsockFile)).value();
  internal::UniqueFd stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  timeval patience{.tv_sec = 10, .tv_usec = 0};
  setsockopt(stream.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string answer;
  if (connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      send(stream.get(), request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
    // Byte by byte: what follows the line is the guest's.
    for (char c = 0; c != '\n' && answer.size() < 64 && recv(stream.get(), &c, 1, 0) == 1;) answer += c;
  }
  if (!answer.starts_with("OK ")) {
    throw GuestFailed(
        {.summary = fmt::format("'{}' (ch): nobody in the guest listens on vsock port {}", name(), port)});
  }
  timeval forever{};
  setsockopt(stream.get(), SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
  return stream;
}

internal::UniqueFd ChMachine::ListenVsock(uint32_t port) {
  return internal::ListenOn(sandbox_.Path(fmt::format("{}_{}", kVsockFile, port)), /*waiting=*/16);
}

std::map<std::string, std::map<std::string, uint64_t>> ChMachine::Counters() {
  constexpr std::array<std::pair<const char*, const char*>, 4> kNames = {
      {{"read_bytes", "read_bytes"}, {"write_bytes", "written_bytes"}, {"read_ops", "reads"}, {"write_ops", "writes"}}};
  std::map<std::string, std::map<std::string, uint64_t>> counters;
  auto all = Ask("count for", [this](Api& api) { return api.ReadCounters(CallDeadline()); });
  for (const auto& [device, values] : all) {
    std::map<std::string, uint64_t>& row = counters[device];
    for (const auto& [key, value] : values) {
      auto known = std::find_if(kNames.begin(), kNames.end(), [&](const auto& names) { return names.first == key; });
      row[known != kNames.end() ? known->second : key] = value;
    }
  }
  return counters;
}

}  // namespace mayfly::ch
