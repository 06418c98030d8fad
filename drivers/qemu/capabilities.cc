#include "drivers/qemu/capabilities.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>

#include <algorithm>
#include <array>
#include <string>

namespace mayfly::internal {
namespace {

using enum Capability;
using enum Support;

// One row for each capability, in the order of the matrix (checked by a test).
constexpr auto kRows = std::to_array<DriverCapability>({
    {kLifecycleBoot, kYes, "kernel, initramfs and disks by -kernel, -initrd and virtio-blk"},
    {kLifecycleStop, kYes, "ACPI power button"},
    {kLifecycleKill, kYes, "SIGKILL to the QEMU process"},
    {kLifecycleState, kYes, "QMP events and the end of the QEMU process"},
    {kLifecycleReboot, kYes, "system_reset; the QEMU process stays"},
    {kLifecycleDelete, kYes, "process and sandbox go with the machine"},
    {kLifecyclePowerButton, kYes, "system_powerdown"},
    {kCpuCount, kYes, "-smp"},
    {kCpuHotplug, kYes, "device_add and device_del; a PC only; taking vCPUs away needs KVM"},
    {kCpuTopology, kYes, "-smp sockets, dies, cores, threads"},
    {kCpuAffinity, kYes, "each vCPU is a thread, bound when the VM starts"},
    {kMemorySize, kYes, "-m"},
    {kMemoryBalloon, kYes, "virtio-balloon"},
    {kMemoryHotplug, kYes, "DIMMs of 128 MiB and more; a PC only"},
    {kMemoryHugepages, kYes, "memory-backend-memfd with hugetlb"},
    {kMemoryZones, kYes, "-numa"},
    {kMemoryZoneResize, kYes, "a virtio-mem device in the zone's node"},
    {kStorageRootDisk, kYes, "virtio-blk"},
    {kStorageSeedIso, kYes, "an ISO9660 image labelled CIDATA on virtio-blk"},
    {kStorageDataDisk, kYes, "virtio-blk"},
    {kStorageHotplug, kYes, "blockdev-add and device_add into a PCI Express slot; a PC only"},
    {kStorageResize, kYes, "block_resize"},
    {kStorageCowClone, kYes, "reflink where the runtime directory has it, else a qcow2 overlay"},
    {kStorageCache, kYes, "cache.direct, cache.no-flush, write-cache"},
    {kStorageRateLimit, kYes, "a throttle group for each limited disk"},
    {kStoragePmem, kYes, "virtio-pmem on a file; a PC only"},
    {kNetworkNat, kYes, "-netdev user; the guest reaches the host's loopback as 10.0.2.2"},
    {kNetworkTap, kYes, "-netdev tap,fd=; a new device is in a user and a network namespace of its own"},
    {kNetworkSocketpair, kYes, "-netdev dgram on unix sockets"},
    {kNetworkMac, kYes, "mac of virtio-net"},
    {kNetworkHotplug, kYes, "netdev_add and device_add into a PCI Express slot; a PC only"},
    {kNetworkBridged, kNotWired, kNotYet, HasNic<NicKind::kBridged>},
    {kNetworkVhostUser, kNotWired, kNotYet, HasNic<NicKind::kVhostUser>},
    {kNetworkAttachmentSwap, kYes, "each NIC is at a hub of its own, whose other port is exchanged"},
    {kShareVirtiofs, kYes, "vhost-user-fs and a virtiofsd for each share"},
    {kShareReadOnly, kYes, "virtiofsd --readonly, or a read-only bind mount under the virtiofsd of QEMU"},
    {kShareHotplug, kYes, "vhost-user-fs by device_add into a PCI Express slot; a PC only"},
    {kSerialFile, kYes, "console.log in the VM's directory"},
    {kSerialReadiness, kYes, "the console log is followed as it is written"},
    {kSerialPty, kYes, "-chardev pty; its path is in the event 'serial'"},
    {kSerialSocket, kYes, "serial.sock in the VM's directory"},
    {kEntropyRng, kYes, "virtio-rng on the host's getrandom"},
    {kStatePause, kYes, "stop and cont"},
    {kStateSnapshot, kYes, "migration to a file, with the memory in it or, for templates, in a file beside it"},
    {kStateRestore, kYes, "-incoming; the memory of a template is mapped privately"},
    {kStateMigration, kYes, "migrate and migrate-incoming; without private disks and shares"},
    {kStateCounters, kYes, "query-blockstats"},
    {kPassthroughVfio, kYes, "vfio-pci; a PC only"},
    {kPassthroughVdpa, kNotWired, "QEMU 7.2 has vhost-vdpa for network devices only, and Debian's kernels make none",
     HasPassthrough<PassthroughKind::kVdpa>},
    {kPassthroughVfioUser, kNever, "stock QEMU 7.2 is no vfio-user client", HasPassthrough<PassthroughKind::kVfioUser>},
    {kPassthroughHotplug, kYes, "vfio-pci by device_add into a PCI Express slot; a PC only"},
    {kIntervmVsock, kYes, "vhost-vsock, with an address that is free on the host"},
    {kIntervmVsockHotplug, kYes, "vhost-vsock by device_add into a PCI Express slot; a PC only"},
    {kIntervmL2Switch, kNotWired, "mayfly has no switch yet for NICs of kind socket to meet in"},
    {kPlatformRosetta, kNever, "Rosetta exists on Apple silicon only", [](const MachineSpec& s) { return s.rosetta; }},
    {kPlatformMacosGuest, kNever, "macOS runs as a guest of Apple's hosts only"},
    {kPlatformUefi, kYes, "OVMF in flash, with variables of the VM's own; it starts the kernel or a disk"},
    {kPlatformTpm, kYes, "tpm-crb and a swtpm"},
    {kPlatformWatchdog, kYes, "i6300esb; the guest's kernel needs its driver (Debian's 6.1 cloud kernel has none)"},
    {kPlatformGraphics, kYes, "VGA and screendump"},
    {kPlatformAudio, kYes, "ES1370; what it plays is in audio.wav in the VM's directory"},
    {kPlatformUsb, kYes, "qemu-xhci and usb-storage"},
    {kPlatformGenerationId, kYes, "vmgenid; the guest's kernel needs its driver (Debian's cloud kernels have none)"},
    {kPlatformNested, kYes, "-cpu with svm (software emulation) or the host's own (KVM)"},
    {kDebugPvpanic, kYes, "the pvpanic device; the machine stops at the panic"},
    {kDebugNmi, kYes, "inject-nmi"},
    {kDebugCoredump, kYes, "dump-guest-memory"},
    {kDeviceRemove, kYes, "device_del of what was added; a PC only"},
    {kVmmPing, kYes, "QMP greeting and query-version"},
    {kVmmInfo, kYes, "Info, status and the command line"},
    {kVmmShutdown, kYes, "the QEMU process ends with the machine"},
    {kVmmApiMode, kYes, "QMP over an inherited socket"},
    {kVmmCliMode, kYes, "reproduce.sh starts the same machine by its command line"},
});
static_assert(kRows.size() == kCapabilityCount, "one row for each capability of matrix/capabilities.json");

}  // namespace

const DriverCapability& QemuCapabilityOf(Capability capability) { return kRows.at(static_cast<size_t>(capability)); }

std::string WhyQemuCannotSave(const MachineSpec& spec) {
  if (std::string why = WhyDevicesAreNotCopied(spec); !why.empty()) return why;
  for (const Nic& nic : spec.nics) {
    if (nic.kind == NicKind::kTap && !nic.source.empty()) {
      return fmt::format("nic '{}': {} is a TAP device for one VM at a time", nic.id, nic.source);
    }
  }
  if (spec.vsock) return "vsock: the host's kernel knows it by an address that no two guests can have";
  if (!spec.passthrough.empty()) {
    return fmt::format("passthrough '{}': the device is this machine's alone", spec.passthrough[0].id);
  }
  if (spec.tpm) return "tpm: what it keeps is known to its swtpm only";
  if (spec.hugepages) return "hugepages: memory in them is not saved as copies share it";
  for (const MemoryZone& zone : spec.zones) {
    if (zone.hugepages) return fmt::format("zone '{}': hugepages are not saved as copies share them", zone.id);
  }
  return {};
}

// QEMU 7.2 gives a page back by a hole in the memory's file, though it is mapped privately.
std::string WhyQemuCannotCopy(const MachineSpec& spec) {
  std::string why = WhyQemuCannotSave(spec);
  if (!why.empty()) return why;
  if (spec.balloon) return "balloon: what it takes from a copy would be taken from the memory that copies share";
  for (const MemoryZone& zone : spec.zones) {
    if (zone.max_size == Bytes() || zone.max_size == zone.size) continue;
    return fmt::format("zone '{}': what a copy gives back would be taken from the memory that copies share", zone.id);
  }
  return {};
}

void RefuseWhatIsNotOffered(const MachineSpec& spec) { RefuseWhatIsNotOffered(kRows, "qemu", spec); }

}  // namespace mayfly::internal
