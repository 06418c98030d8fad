#include "drivers/ch/capabilities.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>

#include <algorithm>
#include <array>
#include <string>

namespace mayfly::ch {
namespace {

using enum Capability;
using enum internal::Support;
using internal::DriverCapability;
using internal::HasNic;
using internal::kNotYet;

bool WritesThrough(const MachineSpec& spec) {
  return std::any_of(spec.disks.begin(), spec.disks.end(),
                     [](const Disk& disk) { return disk.cache == DiskCache::kWritethrough; });
}

// One row for each capability, in the order of the matrix (checked by a test).
constexpr auto kRows = std::to_array<DriverCapability>({
    {kLifecycleBoot, kYes, "vm.create and vm.boot"},
    {kLifecycleStop, kYes, "vm.power-button"},
    {kLifecycleKill, kYes, "SIGKILL to the VMM"},
    {kLifecycleState, kYes, "the event monitor and the end of the process"},
    {kLifecycleReboot, kYes, "vm.reboot; the process stays"},
    {kLifecycleDelete, kYes, "process and sandbox go with the machine"},
    {kLifecyclePowerButton, kYes, "vm.power-button"},
    {kCpuCount, kYes, "boot_vcpus"},
    {kCpuHotplug, kYes, "vm.resize desired_vcpus"},
    {kCpuTopology, kYes, "cpus.topology"},
    {kCpuAffinity, kYes, "cpus.affinity"},
    {kMemorySize, kYes, "memory.size"},
    {kMemoryBalloon, kYes, "vm.resize desired_balloon"},
    {kMemoryHotplug, kYes, "virtio-mem and vm.resize desired_ram; the guest needs the driver"},
    {kMemoryHugepages, kYes, "memory.hugepages with reserve"},
    {kMemoryZones, kYes, "memory.zones and numa"},
    {kMemoryZoneResize, kYes, "virtio-mem and vm.resize-zone"},
    {kStorageRootDisk, kYes, "virtio-blk"},
    {kStorageSeedIso, kYes, "an ISO9660 image labelled CIDATA, read-only"},
    {kStorageDataDisk, kYes, "virtio-blk"},
    {kStorageHotplug, kYes, "vm.add-disk"},
    {kStorageResize, kYes, "vm.resize-disk of raw disks"},
    {kStorageCowClone, kYes, "reflink where the runtime directory has it, else a qcow2 overlay with backing_files"},
    {kStorageCache, kNotWired, "write back, or past the host's page cache; write through is not offered",
     WritesThrough},
    {kStorageRateLimit, kYes, "rate_limiter_config; a limit is fixed once the machine is made"},
    {kStoragePmem, kYes, "virtio-pmem on a file of whole 2 MiB; vm.add-pmem"},
    {kNetworkNat, kNotWired, kNotYet, HasNic<NicKind::kNat>},
    {kNetworkTap, kYes, "a TAP device, of the host or made by the VMM"},
    {kNetworkSocketpair, kNotWired, kNotYet, HasNic<NicKind::kSocket>},
    {kNetworkMac, kYes, "net.mac and net.mtu"},
    {kNetworkHotplug, kYes, "vm.add-net and vm.remove-device"},
    {kNetworkBridged, kNotWired, kNotYet, HasNic<NicKind::kBridged>},
    {kNetworkVhostUser, kNotWired, kNotYet, HasNic<NicKind::kVhostUser>},
    {kNetworkAttachmentSwap, kNever, "a NIC keeps its backend; vm.remove-device and vm.add-net give another NIC"},
    {kShareVirtiofs, kYes, "a virtiofsd for each share"},
    {kShareReadOnly, kYes, "virtiofsd --readonly, or a read-only bind mount under the virtiofsd of QEMU"},
    {kShareHotplug, kYes, "vm.add-fs and a virtiofsd; a machine of kind pc, whose memory is shared from the start"},
    {kSerialFile, kYes, "standard output of the VMM, appended to console.log"},
    {kSerialReadiness, kYes, "the console log is followed as it is written"},
    {kSerialPty, kYes, "a pseudo-terminal beside the console's log; its path is in the event 'serial'"},
    {kSerialSocket, kYes, "serial.sock in the VM's directory"},
    {kEntropyRng, kYes, "virtio-rng, which every machine has"},
    {kStatePause, kYes, "vm.pause and vm.resume"},
    {kStateSnapshot, kYes, "vm.pause and vm.snapshot; the private disks are copied beside it"},
    {kStateRestore, kYes, "vm.restore; copies map the memory of the snapshot privately where the spec allows it"},
    {kStateMigration, kYes, "vm.send-migration and vm.receive-migration; without private disks and shares"},
    {kStateCounters, kYes, "vm.counters"},
    {kPassthroughVfio, kYes, "devices: a PCI device that is bound to vfio-pci"},
    {kPassthroughVdpa, kYes, "vdpa: /dev/vhost-vdpa-N, with shared memory"},
    {kPassthroughVfioUser, kYes, "user_devices: the socket of a server, with shared memory"},
    {kPassthroughHotplug, kYes, "vm.add-device, vm.add-vdpa and vm.add-user-device"},
    {kIntervmVsock, kYes, "vsock.sock in the directory of the VM"},
    {kIntervmVsockHotplug, kNotWired, "a machine has one vsock, and the guest's agent has it from the start"},
    {kIntervmL2Switch, kNotWired, kNotYet},
    {kPlatformRosetta, kNever, "Rosetta exists on Apple silicon only", [](const MachineSpec& s) { return s.rosetta; }},
    {kPlatformMacosGuest, kNever, "macOS runs as a guest of Apple's hosts only"},
    {kPlatformUefi, kNotWired, kNotYet, [](const MachineSpec& s) { return !s.boot.firmware.empty(); }},
    {kPlatformTpm, kYes, "a swtpm"},
    {kPlatformWatchdog, kNotWired, kNotYet, [](const MachineSpec& s) { return s.watchdog.has_value(); }},
    {kPlatformGraphics, kNever, "Cloud Hypervisor emulates no display",
     [](const MachineSpec& s) { return s.graphics.has_value(); }},
    {kPlatformAudio, kNever, "Cloud Hypervisor emulates no sound device", [](const MachineSpec& s) { return s.audio; }},
    {kPlatformUsb, kNever, "Cloud Hypervisor emulates no USB controller", [](const MachineSpec& s) { return s.usb; }},
    {kPlatformGenerationId, kNever,
     "Cloud Hypervisor has no vmgenid device; the agent gives a copy fresh entropy instead",
     [](const MachineSpec& s) { return s.generation_id; }},
    {kPlatformNested, kYes, "cpus.nested"},
    {kDebugPvpanic, kYes, "the event guest/panic; the VMM is ended then"},
    {kDebugNmi, kYes, "vm.nmi"},
    {kDebugCoredump, kYes, "vm.coredump"},
    {kDeviceRemove, kYes, "vm.remove-device and its event"},
    {kVmmPing, kYes, "vmm.ping and --version"},
    {kVmmInfo, kYes, "Info, status and the command line"},
    {kVmmShutdown, kYes, "the process ends with the machine"},
    {kVmmApiMode, kYes, "--api-socket, a listener that is inherited"},
    {kVmmCliMode, kYes, "its command line starts the same machine"},
});
static_assert(kRows.size() == kCapabilityCount, "one row for each capability of matrix/capabilities.json");

}  // namespace

const DriverCapability& RowOf(Capability capability) { return kRows.at(static_cast<size_t>(capability)); }

std::string WhyCannotSave(const MachineSpec& spec) {
  if (std::string why = internal::WhyDevicesAreNotCopied(spec); !why.empty()) return why;
  if (spec.tpm) return "tpm: what it keeps is known to its swtpm only";
  if (!spec.passthrough.empty())
    return fmt::format("passthrough '{}': its state is in the device", spec.passthrough[0].id);
  for (const Nic& nic : spec.nics) {
    if (nic.kind == NicKind::kTap && !nic.source.empty()) {
      return fmt::format("nics: '{}': TAP device \"{}\" can belong to one machine only", nic.id, nic.source);
    }
  }
  return {};
}

void RefuseWhatIsNotOffered(const MachineSpec& spec) { internal::RefuseWhatIsNotOffered(kRows, "ch", spec); }

}  // namespace mayfly::ch
