// What a virtual machine is made of.
//
// A `MachineSpec` is plain data: fill in what matters, leave the rest. Everything has a default that gives a small,
// hermetic Linux guest that boots fast.
//
//   MachineSpec spec{.cpus = 2, .memory = 512_MiB};
//   spec.disks.push_back({.id = "data", .size = 1_GiB});          // an empty disk, private to the VM
//   Validate(spec);                                               // throws BadSpec that names the field
//   std::string json = ToJson(spec);
//   MachineSpec same = SpecFromJson(json, "spec.json");
//   std::string identity = CanonicalHash(spec);
//
// A spec says what the VM shall have, never how a backend makes it; what a backend lacks is told when the VM is created
// (`Unsupported`). JSON uses the names of the members; sizes are "512MiB" or a number of bytes; durations are
// milliseconds; what equals its default is left out, and unknown keys are errors.
#pragma once

#include <mayfly/bytes.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {

// How vCPUs are arranged. All 0: one socket with a core for each vCPU. Otherwise the product is max_cpus.
struct CpuTopology {
  uint32_t sockets = 0;
  uint32_t dies = 0;
  uint32_t cores = 0;
  uint32_t threads = 0;
  friend bool operator==(const CpuTopology&, const CpuTopology&) = default;
};

// Binds one vCPU to host CPUs.
struct CpuAffinity {
  uint32_t vcpu = 0;
  std::vector<uint32_t> host_cpus{};
  friend bool operator==(const CpuAffinity&, const CpuAffinity&) = default;
};

// A NUMA node of the guest. The sizes of all zones add up to `memory`.
struct MemoryZone {
  std::string id{};
  Bytes size{};
  Bytes max_size{};  // 0: cannot grow
  std::vector<uint32_t> cpus{};
  bool hugepages = false;
  std::optional<uint32_t> host_node{};
  friend bool operator==(const MemoryZone&, const MemoryZone&) = default;
};

struct Balloon {
  Bytes size{};  // taken from the guest at start
  bool deflate_on_oom = true;
  bool free_page_reporting = false;
  friend bool operator==(const Balloon&, const Balloon&) = default;
};

// What the machine starts. Empty: what `image` says.
struct BootSource {
  std::string kernel{};        // path of a kernel on the host
  std::string initramfs{};     // path
  std::string command_line{};  // appended to the image's own
  std::string firmware{};      // "uefi" for the host's UEFI build, or a path; it starts the image's kernel or a disk
  friend bool operator==(const BootSource&, const BootSource&) = default;
};

enum class DiskFormat { kRaw, kQcow2 };
// What a guest's flush and the host's page cache mean for a disk.
// kWriteback: flushes reach the host's disk. kNone: past the host's page cache. kWritethrough: each write is flushed.
// kUnsafe: flushes do not reach the host's disk; a killed VMM loses only what the guest has not flushed, a host's power
// cut may lose more. Right for disks that go after the test.
enum class DiskCache { kUnsafe, kWriteback, kNone, kWritethrough };

struct RateLimit {
  Bytes bytes_per_second{};            // 0: unlimited
  uint64_t operations_per_second = 0;  // 0: unlimited
  friend bool operator==(const RateLimit&, const RateLimit&) = default;
};

struct Disk {
  std::string id{};    // unique in the VM; the guest sees it as the disk's serial number. At most 20 of [a-zA-Z0-9_-]
  std::string path{};  // an image on the host; empty: a new disk of `size`, removed with the VM
  Bytes size{};        // with path: the size it is grown to; 0: as it is
  DiskFormat format = DiskFormat::kRaw;
  bool readonly = false;
  // True: the guest writes to a private copy-on-write clone and `path` never changes. False: it writes to `path`
  // itself.
  bool clone = true;
  DiskCache cache = DiskCache::kUnsafe;
  RateLimit limit{};
  bool usb = false;  // on the USB controller, which the spec has to have: {"usb": true}
  friend bool operator==(const Disk&, const Disk&) = default;
};

// A cloud-init NoCloud seed, given to the guest as a read-only disk labelled CIDATA.
struct Seed {
  std::string user_data{};       // "#cloud-config\n…"
  std::string meta_data{};       // YAML; empty: instance-id and local-hostname of the VM
  std::string network_config{};  // YAML; empty: none
  friend bool operator==(const Seed&, const Seed&) = default;
};

// Where the other end of a network interface is.
// kNone: a link without carrier to anything. kNat: user-mode NAT inside the VMM, host unreachable unless `forwards`.
// kTap: a TAP device of the host (Machine::HostEndOf). kSocket: a datagram socket that carries Ethernet frames (a
// switch in this process). kBridged: a bridge or interface of the host. kVhostUser: a vhost-user backend.
enum class NicKind { kNone, kNat, kTap, kSocket, kBridged, kVhostUser };

struct Nic {
  std::string id{};
  NicKind kind = NicKind::kNat;
  std::string mac{};     // "52:54:00:12:34:56"; empty: one that is unique to the VM
  std::string source{};  // kTap: the device, empty for a new one in a network of its own; kBridged: the bridge;
                         // kSocket, kVhostUser: a unix socket
  uint32_t mtu = 0;      // 0: 1500
  friend bool operator==(const Nic&, const Nic&) = default;
};

// A directory of the host that the guest mounts by virtiofs: `mount -t virtiofs TAG DIR`.
struct Share {
  std::string tag{};  // at most 36 bytes
  std::string path{};
  bool readonly = false;
  friend bool operator==(const Share&, const Share&) = default;
};

// Where the first serial port goes, besides the console log of the VM, which is always kept.
enum class SerialKind { kFile, kPty, kSocket };

struct Vsock {
  uint32_t cid = 0;  // 0: one that is free on the host
  friend bool operator==(const Vsock&, const Vsock&) = default;
};

struct Tpm {
  std::string state{};  // directory to start from; empty: a new TPM
  friend bool operator==(const Tpm&, const Tpm&) = default;
};

enum class WatchdogAction { kReset, kPowerOff, kPause, kNone };
struct Watchdog {
  WatchdogAction action = WatchdogAction::kReset;
  friend bool operator==(const Watchdog&, const Watchdog&) = default;
};

struct Graphics {
  uint32_t width = 1024;
  uint32_t height = 768;
  friend bool operator==(const Graphics&, const Graphics&) = default;
};

struct Pmem {
  std::string id{};
  std::string path{};
  bool discard_writes = false;
  friend bool operator==(const Pmem&, const Pmem&) = default;
};

// A host device that the guest owns. kVfio: a sysfs path or PCI address. kVfioUser: a socket. kVdpa: /dev/vhost-vdpa-N.
enum class PassthroughKind { kVfio, kVfioUser, kVdpa };
struct Passthrough {
  std::string id{};
  PassthroughKind kind = PassthroughKind::kVfio;
  std::string path{};
  friend bool operator==(const Passthrough&, const Passthrough&) = default;
};

// kAuto: hardware virtualisation where a canary guest boots with it, else software emulation.
enum class Accelerator { kAuto, kHardware, kSoftware };

// kAuto: the fast machine without PCI where the rest of the spec allows it, else the one with PCI, hotplug and
// firmware.
enum class MachineKind { kAuto, kMicro, kPc };

struct MachineSpec {
  uint32_t cpus = 1;
  Bytes memory = Bytes(256 << 20);
  std::string image = "tiny";  // `mayfly image list`; empty: only `boot` and `disks`
  std::string name{};          // the guest's host name and the VM's name in messages; empty: one is made up
  BootSource boot{};

  uint32_t max_cpus = 0;  // 0: no hotplug
  CpuTopology topology{};
  std::vector<CpuAffinity> affinity{};
  bool nested_virtualization = false;
  bool iommu = false;  // the guest has one, with its disks behind it, and can hand them on to guests of its own

  Bytes max_memory{};  // 0: no hotplug
  bool hugepages = false;
  std::vector<MemoryZone> zones{};
  std::optional<Balloon> balloon{};

  std::vector<Disk> disks{};  // the image's root disk comes before them
  std::vector<Pmem> pmem{};
  std::optional<Seed> seed{};
  std::vector<Nic> nics{};  // none by default: hermetic
  std::vector<Share> shares{};
  SerialKind serial = SerialKind::kFile;
  bool rng = true;
  std::optional<Vsock> vsock{};
  std::optional<Tpm> tpm{};
  std::optional<Watchdog> watchdog{};
  std::optional<Graphics> graphics{};
  bool audio = false;
  bool pvpanic = false;
  bool generation_id = false;  // vmgenid: tells the guest that it is a copy
  bool usb = false;
  bool rosetta = false;
  std::vector<Passthrough> passthrough{};

  Accelerator accelerator = Accelerator::kAuto;
  MachineKind machine = MachineKind::kAuto;
  std::string driver{};  // empty: $MAYFLY_DRIVER, else the first that works here
  // True: the guest runs mayfly's agent, which `Vm` needs for Exec and files. False: it counts as ready when its
  // console shows a line that begins with VMRS_READY.
  bool agent = true;
  std::chrono::milliseconds boot_timeout{0};  // 0: 60 s, 180 s with firmware, times MAYFLY_TIMEOUT_FACTOR

  friend bool operator==(const MachineSpec&, const MachineSpec&) = default;
};

// Checks every field and what they mean together, on this host (its memory, its files). Throws BadSpec with the first
// fault, such as
//   spec: memory: "3TiB" is more than this host has (23.4 GiB, 19.8 GiB free); allowed: 32MiB to 19GiB
// `where` begins the message. Ids are shared by all devices. Whether the image exists and the backend can do it, is
// told later, when the VM is created.
void Validate(const MachineSpec& spec, std::string_view where = "spec");

// Canonical JSON: keys in the order of the struct, defaults left out. `indent` 0: one line. Throws BadSpec for what
// JSON cannot hold: text that is not UTF-8, enum values that do not exist.
std::string ToJson(const MachineSpec& spec, int indent = 2);

// Reads what ToJson writes, in any order of keys. Throws BadSpec that names the key (path such as disks[1].cache), its
// value and what is allowed; for an unknown key also the nearest known one; for broken JSON line and column.
MachineSpec SpecFromJson(std::string_view json, std::string_view where);

// The identity of the guest that a spec describes, 32 hexadecimal digits: what can be kept for a spec (a prepared
// template, a probe's verdict) is kept under it. The same for equal specs on every host, and stable between releases
// that do not change a field's meaning. Not part of it are `name`, `driver` and `boot_timeout`, which change nothing in
// the guest that could not be changed afterwards; nor are the contents of the files that the spec names. Throws BadSpec
// as ToJson does.
std::string CanonicalHash(const MachineSpec& spec);

}  // namespace mayfly
