#include "drivers/ch/spec_config.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>

#include <algorithm>
#include <utility>

namespace mayfly::ch {
namespace {

using internal::PreparedDisk;

CpusConfig CpusOf(const MachineSpec& spec) {
  CpusConfig cpus{.boot_vcpus = spec.cpus, .max_vcpus = std::max(spec.cpus, spec.max_cpus)};
  if (const mayfly::CpuTopology& t = spec.topology; t != mayfly::CpuTopology{}) {
    auto level = [](uint32_t count) { return static_cast<uint16_t>(std::max(count, 1U)); };
    cpus.topology = CpuTopology{.threads_per_core = level(t.threads),
                                .cores_per_die = level(t.cores),
                                .dies_per_package = level(t.dies),
                                .packages = level(t.sockets)};
  }
  for (const mayfly::CpuAffinity& row : spec.affinity) cpus.affinity.push_back({row.vcpu, row.host_cpus});
  cpus.nested = spec.nested_virtualization;
  return cpus;
}

// Huge pages are reserved, or too few of them would kill the VMM instead of refusing the boot. What is added comes by
// virtio-mem, which can go again.
MemoryConfig MemoryOf(const MachineSpec& spec) {
  MemoryConfig memory{.size = spec.zones.empty() ? spec.memory.count() : 0};
  bool grows = spec.max_memory > spec.memory;
  if (spec.zones.empty()) {
    if (spec.hugepages) memory.hugepages = memory.reserve = true;
    if (grows) memory.hotplug_size = (spec.max_memory - spec.memory).count();
  }
  for (const MemoryZone& zone : spec.zones) {
    MemoryZoneConfig config{.id = zone.id, .size = zone.size.count(), .host_numa_node = zone.host_node};
    if (zone.hugepages || spec.hugepages) config.hugepages = config.reserve = true;
    if (zone.max_size > zone.size) {
      config.hotplug_size = (zone.max_size - zone.size).count();
      grows = true;
    }
    memory.zones.push_back(std::move(config));
  }
  if (grows) memory.hotplug_method = HotplugMethod::kVirtioMem;
  return memory;
}

std::string KernelCommandLine(const MachineSpec& spec) {
  std::string line = "console=ttyS0";
  if (spec.max_memory > spec.memory || !spec.zones.empty()) line += " memhp_default_state=online_movable";
  line += " hostname=" + spec.name;
  if (spec.agent) line += fmt::format(" mayfly.vsock={}", kAgentPort);
  return spec.boot.command_line.empty() ? line : line + " " + spec.boot.command_line;
}

// A bucket that holds a second's worth, so that the limit is kept over any second.
std::optional<RateLimiterConfig> LimiterOf(const RateLimit& limit) {
  constexpr uint64_t kRefill = 1000;
  if (limit == RateLimit{}) return std::nullopt;
  RateLimiterConfig config;
  if (limit.bytes_per_second > Bytes()) {
    config.bandwidth = TokenBucketConfig{.size = limit.bytes_per_second.count(), .refill_time = kRefill};
  }
  if (limit.operations_per_second > 0) {
    config.ops = TokenBucketConfig{.size = limit.operations_per_second, .refill_time = kRefill};
  }
  return config;
}

// The VMM works in the VM's directory; a spec's paths are relative to that of the test.
std::string Absolute(const std::string& path) { return path.empty() ? path : std::filesystem::absolute(path).string(); }

void RequirePossible(const MachineSpec& spec) {
  auto refuse = [](const std::string& what) { throw BadSpec({.summary = "spec: " + what}); };
  if (spec.accelerator == Accelerator::kSoftware) {
    refuse("accelerator: \"software\": Cloud Hypervisor runs on KVM only; `mayfly host` gives it one anywhere");
  }
  if (spec.machine == MachineKind::kMicro) refuse("machine: \"micro\": Cloud Hypervisor has one kind of machine, pc");
  if (spec.iommu) refuse("iommu: true: the driver gives Cloud Hypervisor's machines no IOMMU");
  if (!spec.rng) refuse("rng: false: a machine of Cloud Hypervisor always has virtio-rng");
  if (spec.topology.threads > 2) refuse("topology.threads: at most two threads a core");
}

}  // namespace

bool HasSharedMemory(const MachineSpec& spec) {
  return !spec.shares.empty() || spec.machine == MachineKind::kPc ||
         std::any_of(spec.passthrough.begin(), spec.passthrough.end(),
                     [](const Passthrough& device) { return device.kind != PassthroughKind::kVfio; });
}

void ShareMemory(VmConfig& config) {
  if (config.memory->zones.empty()) config.memory->shared = true;
  for (MemoryZoneConfig& zone : config.memory->zones) zone.shared = true;
}

std::filesystem::path AgentSocket(const std::filesystem::path& directory) {
  return directory / fmt::format("{}_{}", kVsockFile, kAgentPort);
}

DiskConfig ConfigOf(const PreparedDisk& disk) {
  bool qcow2 = disk.format == DiskFormat::kQcow2;
  DiskConfig config{.pci = {.id = disk.disk.id},
                    .path = disk.path.string(),
                    .rate_limiter_config = LimiterOf(disk.disk.limit),
                    .serial = disk.disk.id,
                    .image_type = qcow2 ? ImageType::kQcow2 : ImageType::kRaw};
  if (disk.readonly) config.readonly = true;
  if (disk.disk.cache == DiskCache::kNone) config.direct = true;
  if (qcow2) config.backing_files = true;
  return config;
}

std::string TapOf(const Nic& nic) {
  if (!nic.source.empty()) return nic.source;
  std::string name = "mf" + nic.mac;
  std::erase(name, ':');
  return name;
}

NetConfig ConfigOf(const Nic& nic) {
  NetConfig config{.pci = {.id = nic.id}, .tap = TapOf(nic), .mac = nic.mac};
  if (nic.mtu > 0) config.mtu = static_cast<uint16_t>(nic.mtu);
  return config;
}

FsConfig ConfigOf(const Share& share, const std::filesystem::path& socket) {
  // What QEMU's virtiofsd takes: one queue besides the one for urgent requests.
  return {.pci = {.id = share.tag}, .tag = share.tag, .socket = socket.string(), .num_queues = 1, .queue_size = 128};
}

PmemConfig ConfigOf(const Pmem& pmem) {
  PmemConfig config{.pci = {.id = pmem.id}, .file = Absolute(pmem.path)};
  if (pmem.discard_writes) config.discard_writes = true;
  return config;
}

DeviceConfig VfioConfigOf(const Passthrough& device) {
  // An address, or the device's directory in sysfs.
  std::string path = device.path.starts_with("/") ? device.path : "/sys/bus/pci/devices/" + device.path;
  return {.pci = {.id = device.id}, .path = path};
}

VdpaConfig VdpaConfigOf(const Passthrough& device) {
  return {.pci = {.id = device.id}, .path = Absolute(device.path), .num_queues = 1};
}

UserDeviceConfig VfioUserConfigOf(const Passthrough& device) {
  return {.pci = {.id = device.id}, .socket = Absolute(device.path)};
}

VmConfig ConfigOf(const MachineSpec& spec, const std::vector<PreparedDisk>& disks,
                  const std::filesystem::path& directory) {
  RequirePossible(spec);
  VmConfig config{.cpus = CpusOf(spec),
                  .memory = MemoryOf(spec),
                  .payload = PayloadConfig{.kernel = Absolute(spec.boot.kernel),
                                           .cmdline = KernelCommandLine(spec),
                                           .initramfs = Absolute(spec.boot.initramfs)},
                  .serial = SerialConfig{.mode = ConsoleMode::kTty},
                  .console = ConsoleConfig{}};
  for (const PreparedDisk& disk : disks) config.disks.push_back(ConfigOf(disk));
  for (const Nic& nic : spec.nics) config.net.push_back(ConfigOf(nic));
  if (spec.balloon) {
    config.balloon = BalloonConfig{.size = spec.balloon->size.count(),
                                   .deflate_on_oom = spec.balloon->deflate_on_oom,
                                   .free_page_reporting = spec.balloon->free_page_reporting};
  }
  for (size_t i = 0; i < spec.shares.size(); ++i) {
    config.fs.push_back(ConfigOf(spec.shares[i], internal::ShareSocket(directory, i)));
  }
  for (const Pmem& pmem : spec.pmem) config.pmem.push_back(ConfigOf(pmem));
  for (const Passthrough& device : spec.passthrough) {
    if (device.kind == PassthroughKind::kVfio) config.devices.push_back(VfioConfigOf(device));
    if (device.kind == PassthroughKind::kVdpa) config.vdpa.push_back(VdpaConfigOf(device));
    if (device.kind == PassthroughKind::kVfioUser) config.user_devices.push_back(VfioUserConfigOf(device));
  }
  if (spec.agent || spec.vsock) {
    constexpr uint32_t kGuest = 3;  // each guest has a vsock of its own, so all may have the same number
    uint32_t asked = spec.vsock ? spec.vsock->cid : 0;
    config.vsock = VsockConfig{.cid = asked != 0 ? asked : kGuest, .socket = kVsockFile};
  }
  if (HasSharedMemory(spec)) ShareMemory(config);
  if (spec.pvpanic) config.pvpanic = true;
  if (spec.tpm) config.tpm = TpmConfig{.socket = kTpmSocket};
  for (size_t node = 0; node < spec.zones.size(); ++node) {
    config.numa.push_back({.guest_numa_id = static_cast<uint32_t>(node),
                           .cpus = spec.zones[node].cpus,
                           .memory_zones = {spec.zones[node].id}});
  }
  return config;
}

std::vector<std::string> CommandLineOf(const std::string& program, const VmConfig& config,
                                       const std::filesystem::path& console) {
  std::string words = config.payload->cmdline;
  std::string agent = fmt::format(" mayfly.vsock={}", kAgentPort);
  if (size_t at = words.find(agent); at != std::string::npos) words.erase(at, agent.size());
  std::vector<std::string> line = {program, "--kernel", config.payload->kernel,     "--cmdline",
                                   words,   "--serial", "file=" + console.string(), "--console",
                                   "off"};
  auto add = [&](std::string option, std::string value) {
    line.push_back(std::move(option));
    line.push_back(std::move(value));
  };
  if (!config.payload->initramfs.empty()) add("--initramfs", config.payload->initramfs);
  add("--cpus", fmt::format("boot={},max={}", config.cpus->boot_vcpus, config.cpus->max_vcpus));
  add("--memory", fmt::format("size={}", config.memory->size));
  bool first = true;
  for (const DiskConfig& disk : config.disks) {
    if (std::exchange(first, false)) line.emplace_back("--disk");
    line.push_back(fmt::format("path={},id={},serial={},readonly={},image_type={}{}", disk.path, disk.pci.id,
                               disk.serial, disk.readonly.value_or(false) ? "on" : "off",
                               disk.image_type == ImageType::kQcow2 ? "qcow2" : "raw",
                               disk.backing_files.value_or(false) ? ",backing_files=on" : ""));
  }
  return line;
}

}  // namespace mayfly::ch
