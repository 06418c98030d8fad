// What a spec's fields may be, and what they mean together. The rules for one value are in internal/spec_rules.h.
#include <sched.h>

#include <algorithm>
#include <concepts>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <mayfly/internal/host_memory.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/internal/spec_fields.h>
#include <mayfly/internal/spec_rules.h>
#include <mayfly/spec.h>

namespace mayfly {
namespace {

using internal::CheckMultiple;
using internal::CheckRange;
using internal::CheckWord;
using internal::Quoted;
using internal::SpecPath;
using internal::UniqueValues;
using literals::operator""_B;
using literals::operator""_GiB;
using literals::operator""_MiB;
namespace fs = std::filesystem;

constexpr uint64_t kMostCpus = 255;
constexpr Bytes kLeastMemory = 32_MiB;
constexpr Bytes kMemoryUnit = 1_MiB;
constexpr Bytes kHugePage = 2_MiB;
constexpr Bytes kSector = 512_B;
constexpr size_t kLongestId = 20;             // a virtio disk's serial number
constexpr size_t kLongestTag = 36;            // virtiofs
constexpr size_t kLongestHostName = 63;       // a DNS label
constexpr size_t kLongestCommandLine = 2048;  // the x86 kernel's
constexpr size_t kLongestInterface = 15;      // IFNAMSIZ with its NUL
constexpr uint64_t kFirstGuestCid = 3;        // 0 to 2 are the hypervisor, the local and the host
constexpr std::chrono::milliseconds kLongestBoot = std::chrono::hours(24);
constexpr std::string_view kIdCharacters = "_-";
constexpr std::string_view kNameCharacters = "._-";

// --- Every value by its type ----------------------------------------------------------------------------------------

// Text that a kernel, a file name or JSON can hold, and enum values that exist, wherever they stand in a spec.
template <class T>
void CheckRepresentable(const SpecPath& path, const T& value) {
  if constexpr (std::same_as<T, std::string>) {
    if (value.find('\0') != std::string::npos) path.Refuse(Quoted(value) + " has a NUL byte", "text without one");
    if (!internal::IsUtf8(value)) path.Refuse(Quoted(value) + " is not allowed", "UTF-8");
  } else if constexpr (internal::SpecEnum<T>) {
    if (internal::Name(value).empty()) {
      path.Refuse(fmt::format("{} is no value of the enum", static_cast<int>(value)));
    }
  } else if constexpr (internal::SpecStruct<T>) {
    internal::ForEachField(
        value, [&path](const auto& field, const auto& member) { CheckRepresentable(path.Key(field.name), member); });
  } else if constexpr (internal::SpecList<T>) {
    for (size_t i = 0; i < value.size(); ++i) CheckRepresentable(path.Index(i), value[i]);
  } else if constexpr (internal::SpecOptional<T>) {
    if (value) CheckRepresentable(path, *value);
  }
}

// --- Processor and memory -------------------------------------------------------------------------------------------

uint32_t MostVcpus(const MachineSpec& spec) { return std::max(spec.cpus, spec.max_cpus); }

void CheckTopology(const SpecPath& path, const CpuTopology& topology, uint32_t vcpus) {
  if (topology == CpuTopology()) return;
  uint64_t product = 1;
  internal::ForEachField(topology, [&](const auto& field, uint32_t count) {
    CheckRange(path.Key(field.name), count, 1, kMostCpus);
    product *= count;
  });
  if (product == vcpus) return;
  path.Refuse(fmt::format("{} sockets of {} dies of {} cores of {} threads are {} vCPUs", topology.sockets,
                          topology.dies, topology.cores, topology.threads, product),
              fmt::format("a product of {}", vcpus));
}

// The CPUs of the host that this process may run on.
std::set<uint32_t> UsableHostCpus() {
  std::set<uint32_t> usable;
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) return usable;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &cpus)) usable.insert(cpu);
  }
  return usable;
}

void CheckAffinity(const SpecPath& path, const std::vector<CpuAffinity>& affinity, uint32_t vcpus) {
  UniqueValues bound;
  const std::set<uint32_t> usable = UsableHostCpus();
  for (size_t i = 0; i < affinity.size(); ++i) {
    const SpecPath at = path.Index(i);
    CheckRange(at.Key("vcpu"), affinity[i].vcpu, 0, vcpus - 1);
    bound.Add(at.Key("vcpu"), fmt::format("{}", affinity[i].vcpu));
    if (affinity[i].host_cpus.empty()) at.Key("host_cpus").Refuse("is empty", "one CPU of the host or more");
    for (size_t j = 0; j < affinity[i].host_cpus.size(); ++j) {
      uint32_t cpu = affinity[i].host_cpus[j];
      if (usable.empty() || usable.contains(cpu)) continue;
      at.Key("host_cpus")
          .Index(j)
          .Refuse(fmt::format("CPU {} is not one that this process may use", cpu),
                  fmt::format("{}", fmt::join(usable, ", ")));
    }
  }
}

void CheckCpus(const SpecPath& path, const MachineSpec& spec) {
  CheckRange(path.Key("cpus"), spec.cpus, 1, kMostCpus);
  if (spec.max_cpus != 0) {
    CheckRange(path.Key("max_cpus"), spec.max_cpus, 0, kMostCpus);
    if (spec.max_cpus < spec.cpus) {
      path.Key("max_cpus")
          .Refuse(fmt::format("{} is less than cpus ({})", spec.max_cpus, spec.cpus),
                  fmt::format("0 for no hotplug, or {} to {}", spec.cpus, kMostCpus));
    }
  }
  CheckTopology(path.Key("topology"), spec.topology, MostVcpus(spec));
  CheckAffinity(path.Key("affinity"), spec.affinity, MostVcpus(spec));
}

// Whole GiB where there are some, else whole MiB: a limit for people.
Bytes RoundedDown(Bytes bytes) {
  Bytes unit = bytes >= 2_GiB ? 1_GiB : 1_MiB;
  return unit * (bytes.count() / unit.count());
}

void CheckMemorySize(const SpecPath& path, Bytes size, bool hugepages) {
  const internal::HostMemory host = internal::ReadHostMemory();
  // What others use now is waited for, see daemon/admission.h.
  const std::string allowed = ToString(kLeastMemory) + " to " + ToString(RoundedDown(host.total));
  if (size > host.total) {
    path.Refuse(fmt::format("{} is more than this host has ({}, {} free)", Quoted(ToString(size)),
                            ForPeople(host.total), ForPeople(host.available)),
                allowed);
  }
  if (size < kLeastMemory) path.Refuse(Quoted(ToString(size)) + " is too little for a guest", allowed);
  CheckMultiple(path, size, hugepages ? kHugePage : kMemoryUnit);
}

void CheckHostNode(const SpecPath& path, uint32_t node) {
  const fs::path nodes = "/sys/devices/system/node";
  if (fs::exists(nodes / fmt::format("node{}", node))) return;
  std::string online;
  std::getline(std::ifstream(nodes / "online"), online);
  path.Refuse(fmt::format("this host has no node {}", node), online);
}

void CheckZones(const SpecPath& path, const MachineSpec& spec) {
  UniqueValues ids;
  UniqueValues cpus;
  Bytes sum;
  for (size_t i = 0; i < spec.zones.size(); ++i) {
    const MemoryZone& zone = spec.zones[i];
    const SpecPath at = path.Index(i);
    CheckWord(at.Key("id"), zone.id, kLongestId, kIdCharacters);
    ids.Add(at.Key("id"), zone.id);
    CheckMultiple(at.Key("size"), zone.size, zone.hugepages ? kHugePage : kMemoryUnit);
    if (zone.size == 0_B || zone.size > spec.memory) {
      at.Key("size").Refuse(Quoted(ToString(zone.size)) + " is not allowed",
                            "1MiB to memory, " + ToString(spec.memory));
    }
    if (zone.max_size != 0_B && zone.max_size < zone.size) {
      at.Key("max_size")
          .Refuse(Quoted(ToString(zone.max_size)) + " is less than size",
                  "0 for no growth, or " + ToString(zone.size) + " and more");
    }
    for (size_t j = 0; j < zone.cpus.size(); ++j) {
      CheckRange(at.Key("cpus").Index(j), zone.cpus[j], 0, MostVcpus(spec) - 1);
      cpus.Add(at.Key("cpus").Index(j), fmt::format("{}", zone.cpus[j]));
    }
    if (zone.host_node) CheckHostNode(at.Key("host_node"), *zone.host_node);
    sum = sum + zone.size;
  }
  if (!spec.zones.empty() && sum != spec.memory) {
    path.Refuse(fmt::format("their sizes add up to {}", ToString(sum)), "a sum of memory, " + ToString(spec.memory));
  }
}

void CheckMemory(const SpecPath& path, const MachineSpec& spec) {
  CheckMemorySize(path.Key("memory"), spec.memory, spec.hugepages);
  if (spec.max_memory != 0_B) {
    CheckMemorySize(path.Key("max_memory"), spec.max_memory, spec.hugepages);
    if (spec.max_memory < spec.memory) {
      path.Key("max_memory")
          .Refuse(fmt::format("{} is less than memory", Quoted(ToString(spec.max_memory))),
                  fmt::format("0 for no hotplug, or {} and more", ToString(spec.memory)));
    }
  }
  CheckZones(path.Key("zones"), spec);
  if (spec.balloon && spec.balloon->size >= spec.memory) {
    path.Key("balloon").Key("size").Refuse(
        fmt::format("{} leaves the guest no memory", Quoted(ToString(spec.balloon->size))),
        "less than memory, " + ToString(spec.memory));
  }
}

// --- Boot -----------------------------------------------------------------------------------------------------------

void CheckBoot(const SpecPath& path, const MachineSpec& spec) {
  const BootSource& boot = spec.boot;
  const SpecPath at = path.Key("boot");
  if (!boot.firmware.empty() && (!boot.kernel.empty() || !boot.initramfs.empty())) {
    at.Key("firmware")
        .Refuse(fmt::format("{} with a kernel or initramfs", Quoted(boot.firmware)),
                "firmware, which boots from a disk, or boot.kernel");
  }
  if (spec.image.empty() && boot.kernel.empty()) {
    if (!boot.initramfs.empty()) at.Key("initramfs").Refuse("there is no kernel for it", "with boot.kernel or image");
    if (boot.firmware.empty()) at.Refuse("there is nothing to start", "an image, boot.kernel or boot.firmware");
  }
  if (!boot.kernel.empty()) internal::CheckKernel(at.Key("kernel"), boot.kernel);
  if (!boot.initramfs.empty()) internal::CheckFile(at.Key("initramfs"), boot.initramfs, "an initramfs file");
  if (!boot.firmware.empty() && boot.firmware != "uefi") {
    internal::CheckFile(at.Key("firmware"), boot.firmware, "\"uefi\" or a firmware file");
  }
  if (boot.command_line.size() >= kLongestCommandLine) {
    at.Key("command_line")
        .Refuse(fmt::format("{} bytes are too many", boot.command_line.size()),
                fmt::format("at most {}", kLongestCommandLine - 1));
  }
  if (boot.command_line.find('\n') != std::string::npos) {
    at.Key("command_line").Refuse(Quoted(boot.command_line) + " has a line break", "one line");
  }
}

// --- Devices --------------------------------------------------------------------------------------------------------

bool IsQcow2(const fs::path& file) {
  std::string magic(4, '\0');
  std::ifstream(file, std::ios::binary).read(magic.data(), static_cast<std::streamsize>(magic.size()));
  return magic == "QFI\xfb";
}

void CheckDisk(const SpecPath& path, const Disk& disk) {
  CheckMultiple(path.Key("size"), disk.size, kSector);
  if (disk.path.empty()) {
    if (disk.size == 0_B) path.Refuse("has neither path nor size", "an image's path, or the size of a new disk");
    return;
  }
  internal::CheckFile(path.Key("path"), disk.path, "an image file or a block device", !disk.clone && !disk.readonly);
  bool is_qcow2 = IsQcow2(disk.path);
  if (is_qcow2 != (disk.format == DiskFormat::kQcow2)) {
    path.Key("format").Refuse(fmt::format("\"{}\", but {} is {} qcow2 image", internal::Name(disk.format),
                                          Quoted(disk.path), is_qcow2 ? "a" : "no"),
                              is_qcow2 ? "\"qcow2\"" : "\"raw\"");
  }
  if (disk.size == 0_B || is_qcow2 || !fs::is_regular_file(disk.path)) return;
  Bytes now(fs::file_size(disk.path));
  if (disk.size < now) {
    path.Key("size").Refuse(Quoted(ToString(disk.size)) + " would cut the image off",
                            "0 for its own size, or " + ToString(now) + " and more");
  }
}

struct NicSourceRule {
  NicKind kind;
  void (*check)(const SpecPath& path, const std::string& source);
};

void CheckNoSource(const SpecPath& path, const std::string& source) {
  if (!source.empty()) path.Refuse(Quoted(source) + " has no meaning for this kind of NIC", "\"\"");
}

void CheckInterface(const SpecPath& path, const std::string& source) {
  CheckWord(path, source, kLongestInterface, kNameCharacters);
}

void CheckTapOrNone(const SpecPath& path, const std::string& source) {
  if (source.empty()) return;
  CheckInterface(path, source);
  if (fs::exists(fs::path("/sys/class/net") / source / "tun_flags")) return;
  path.Refuse(Quoted(source) + " is no TAP device of this host", "the name of one, or \"\" for a new one");
}

void CheckSocket(const SpecPath& path, const std::string& source) { internal::CheckSocketPath(path, source); }

constexpr NicSourceRule kNicSourceRules[] = {{NicKind::kNone, CheckNoSource},     {NicKind::kNat, CheckNoSource},
                                             {NicKind::kTap, CheckTapOrNone},     {NicKind::kSocket, CheckSocket},
                                             {NicKind::kBridged, CheckInterface}, {NicKind::kVhostUser, CheckSocket}};

void CheckNic(const SpecPath& path, const Nic& nic, UniqueValues& macs) {
  constexpr uint64_t kLeastMtu = 68;  // IPv4's
  constexpr uint64_t kMostMtu = 65535;
  for (const NicSourceRule& rule : kNicSourceRules) {
    if (rule.kind == nic.kind) rule.check(path.Key("source"), nic.source);
  }
  if (nic.mtu != 0) CheckRange(path.Key("mtu"), nic.mtu, kLeastMtu, kMostMtu);
  if (nic.mac.empty()) return;
  internal::CheckMac(path.Key("mac"), nic.mac);
  std::string lower = nic.mac;
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
  macs.Add(path.Key("mac"), lower);
}

void CheckPassthrough(const SpecPath& path, const Passthrough& device) {
  const SpecPath at = path.Key("path");
  if (device.kind == PassthroughKind::kVfioUser) return internal::CheckSocketPath(at, device.path);
  bool address = device.kind == PassthroughKind::kVfio && device.path.find('/') == std::string::npos;
  const fs::path file = address ? fs::path("/sys/bus/pci/devices") / device.path : fs::path(device.path);
  if (!device.path.empty() && fs::exists(file)) return;
  at.Refuse(Quoted(device.path) + " is no device of this host",
            device.kind == PassthroughKind::kVdpa ? "/dev/vhost-vdpa-N" : "a PCI address or a path in /sys/bus");
}

// Devices share one name space of ids, because one operation removes any of them.
void CheckDevices(const SpecPath& path, const MachineSpec& spec) {
  UniqueValues ids;
  UniqueValues macs;
  UniqueValues tags;
  auto for_each = [&](std::string_view key, const auto& devices, auto&& check) {
    for (size_t i = 0; i < devices.size(); ++i) {
      const SpecPath at = path.Key(key).Index(i);
      CheckWord(at.Key("id"), devices[i].id, kLongestId, kIdCharacters);
      ids.Add(at.Key("id"), devices[i].id);
      check(at, devices[i]);
    }
  };
  for_each("disks", spec.disks, [&spec](const SpecPath& at, const Disk& disk) {
    CheckDisk(at, disk);
    if (disk.usb && !spec.usb) at.Key("usb").Refuse("the VM has no USB controller", "with \"usb\": true in the spec");
  });
  for_each("pmem", spec.pmem, [](const SpecPath& at, const Pmem& pmem) {
    internal::CheckFile(at.Key("path"), pmem.path, "a file or a device", !pmem.discard_writes);
  });
  for_each("nics", spec.nics, [&macs](const SpecPath& at, const Nic& nic) { CheckNic(at, nic, macs); });
  for_each("passthrough", spec.passthrough, CheckPassthrough);
  for (size_t i = 0; i < spec.shares.size(); ++i) {
    const SpecPath at = path.Key("shares").Index(i);
    CheckWord(at.Key("tag"), spec.shares[i].tag, kLongestTag, kNameCharacters);
    tags.Add(at.Key("tag"), spec.shares[i].tag);
    internal::CheckDirectory(at.Key("path"), spec.shares[i].path);
  }
}

void CheckOptionalDevices(const SpecPath& path, const MachineSpec& spec) {
  constexpr uint64_t kLeastPixels = 16;
  constexpr uint64_t kMostPixels = 16384;
  if (spec.vsock && spec.vsock->cid != 0) {
    CheckRange(path.Key("vsock").Key("cid"), spec.vsock->cid, kFirstGuestCid, UINT32_MAX - 1);
  }
  if (spec.tpm && !spec.tpm->state.empty()) internal::CheckDirectory(path.Key("tpm").Key("state"), spec.tpm->state);
  if (spec.graphics) {
    CheckRange(path.Key("graphics").Key("width"), spec.graphics->width, kLeastPixels, kMostPixels);
    CheckRange(path.Key("graphics").Key("height"), spec.graphics->height, kLeastPixels, kMostPixels);
  }
}

// --- Names and times ------------------------------------------------------------------------------------------------

void CheckNames(const SpecPath& path, const MachineSpec& spec) {
  if (!spec.image.empty()) CheckWord(path.Key("image"), spec.image, kLongestHostName, kNameCharacters);
  if (!spec.driver.empty()) CheckWord(path.Key("driver"), spec.driver, kLongestHostName, kNameCharacters);
  if (spec.name.empty()) return;
  CheckWord(path.Key("name"), spec.name, kLongestHostName, kNameCharacters);
  if (kNameCharacters.find(spec.name.front()) != std::string_view::npos) {
    path.Key("name").Refuse(Quoted(spec.name) + " is no host name", "a letter or digit first");
  }
}

void CheckTimes(const SpecPath& path, const MachineSpec& spec) {
  if (spec.boot_timeout.count() >= 0 && spec.boot_timeout <= kLongestBoot) return;
  path.Key("boot_timeout")
      .Refuse(fmt::format("{} ms is not allowed", spec.boot_timeout.count()),
              fmt::format("0 for the default, to {}", kLongestBoot.count()));
}

}  // namespace

void Validate(const MachineSpec& spec, std::string_view where) {
  const SpecPath root(where);
  CheckRepresentable(root, spec);
  for (auto* check : {CheckCpus, CheckMemory, CheckNames, CheckBoot, CheckDevices, CheckOptionalDevices, CheckTimes}) {
    check(root, spec);
  }
}

}  // namespace mayfly
