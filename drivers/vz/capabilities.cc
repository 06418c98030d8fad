#include "drivers/vz/capabilities.h"

#include <algorithm>
#include <array>

namespace mayfly::vz {
namespace {

using enum Capability;
using enum internal::Support;
using internal::DriverCapability;
using internal::HasNic;
using internal::HasPassthrough;
using internal::kNotYet;

template <DiskCache cache>
bool HasDiskWith(const MachineSpec& spec) {
  return std::any_of(spec.disks.begin(), spec.disks.end(), [](const Disk& disk) { return disk.cache == cache; });
}

bool HasRateLimit(const MachineSpec& spec) {
  return std::any_of(spec.disks.begin(), spec.disks.end(), [](const Disk& disk) { return disk.limit != RateLimit{}; });
}

bool HasHugepages(const MachineSpec& spec) { return spec.hugepages; }

// One row for each capability, in the order of the matrix (checked by a test).
constexpr auto kRows = std::to_array<DriverCapability>({
    {kLifecycleBoot, kYes, "VZLinuxBootLoader"},
    {kLifecycleStop, kYes, "requestStopWithError:, and stop when its grace is over"},
    {kLifecycleKill, kYes, "stopWithCompletionHandler:, and SIGKILL to the helper"},
    {kLifecycleState, kYes, "the machine's state, its delegate and the end of the helper"},
    {kLifecycleReboot, kYes, "the framework restarts a guest that restarts itself; a reset is stop and start"},
    {kLifecycleDelete, kYes, "helper and sandbox go with the machine"},
    {kLifecyclePowerButton, kYes, "requestStopWithError:"},
    {kCpuCount, kYes, "CPUCount"},
    {kCpuHotplug, kNever, "CPUCount is fixed in VZVirtualMachineConfiguration",
     [](const MachineSpec& s) { return s.max_cpus > s.cpus; }},
    {kCpuTopology, kNever, "VZVirtualMachineConfiguration has a CPU count only",
     [](const MachineSpec& s) { return s.topology != CpuTopology{}; }},
    {kCpuAffinity, kNever, "vCPUs run in a process of the system, and macOS binds no threads to processors",
     [](const MachineSpec& s) { return !s.affinity.empty(); }},
    {kMemorySize, kYes, "memorySize"},
    {kMemoryBalloon, kYes, "targetVirtualMachineMemorySize"},
    {kMemoryHotplug, kNever, "memorySize is fixed in VZVirtualMachineConfiguration; the balloon is what changes it",
     [](const MachineSpec& s) { return s.max_memory > s.memory; }},
    {kMemoryHugepages, kNever, "macOS gives no huge pages to choose", HasHugepages},
    {kMemoryZones, kNever, "VZVirtualMachineConfiguration has one memory size and no nodes",
     [](const MachineSpec& s) { return !s.zones.empty(); }},
    {kMemoryZoneResize, kNever, "there are no zones"},
    {kStorageRootDisk, kYes, "virtio-blk"},
    {kStorageSeedIso, kYes, "an ISO9660 image labelled CIDATA, read-only"},
    {kStorageDataDisk, kYes, "virtio-blk"},
    {kStorageHotplug, kNotWired, kNotYet},
    {kStorageResize, kNever, "an attachment has the size that its image had when it was made"},
    {kStorageCowClone, kYes, "shared blocks where the file system has them, else a copy: images are raw"},
    {kStorageCache, kNotWired, "a disk's cache is always write back for the guest; write through is not offered",
     HasDiskWith<DiskCache::kWritethrough>},
    {kStorageRateLimit, kNever, "attachments have no limits", HasRateLimit},
    {kStoragePmem, kNever, "there is no such device", [](const MachineSpec& s) { return !s.pmem.empty(); }},
    {kNetworkNat, kYes, "VZNATNetworkDeviceAttachment"},
    {kNetworkTap, kNever, "macOS has no TAP devices", HasNic<NicKind::kTap>},
    {kNetworkSocketpair, kYes, "VZFileHandleNetworkDeviceAttachment"},
    {kNetworkMac, kNotWired, "addresses are taken; an MTU can be set where the NIC's other end is a socket only"},
    {kNetworkHotplug, kNever,
     "a running VM gets no new NIC; it can only be plugged into another network (network.attachment_swap)"},
    {kNetworkBridged, kNotWired, kNotYet, HasNic<NicKind::kBridged>},
    {kNetworkVhostUser, kNever, "guest memory is shared with no other process", HasNic<NicKind::kVhostUser>},
    {kNetworkAttachmentSwap, kNotWired, kNotYet},
    {kShareVirtiofs, kYes, "VZVirtioFileSystemDeviceConfiguration"},
    {kShareReadOnly, kYes, "VZSharedDirectory, read-only"},
    {kShareHotplug, kNotWired, kNotYet},
    {kSerialFile, kYes, "VZFileSerialPortAttachment, at the end of console.log"},
    {kSerialReadiness, kYes, "the console log is followed as it is written"},
    {kSerialPty, kNotWired, kNotYet, [](const MachineSpec& s) { return s.serial == SerialKind::kPty; }},
    {kSerialSocket, kNotWired, kNotYet, [](const MachineSpec& s) { return s.serial == SerialKind::kSocket; }},
    {kEntropyRng, kYes, "VZVirtioEntropyDeviceConfiguration"},
    {kStatePause, kYes, "pauseWithCompletionHandler: and resumeWithCompletionHandler:"},
    {kStateSnapshot, kNotWired, kNotYet},
    {kStateRestore, kNotWired, kNotYet},
    {kStateMigration, kNever, "there is no such call, and a saved state is of use on its own host only"},
    {kStateCounters, kNever, "the framework counts nothing"},
    {kPassthroughVfio, kNever, "Macs hand no PCI devices on", HasPassthrough<PassthroughKind::kVfio>},
    {kPassthroughVdpa, kNever, "macOS has no vDPA", HasPassthrough<PassthroughKind::kVdpa>},
    {kPassthroughVfioUser, kNever, "guest memory is shared with no other process",
     HasPassthrough<PassthroughKind::kVfioUser>},
    {kPassthroughHotplug, kNever, "Macs hand no PCI devices on"},
    {kIntervmVsock, kNotWired, kNotYet, [](const MachineSpec& s) { return s.vsock.has_value(); }},
    {kIntervmVsockHotplug, kNever, "the device is part of VZVirtualMachineConfiguration, one at most"},
    {kIntervmL2Switch, kNotWired, kNotYet},
    {kPlatformRosetta, kNotWired, kNotYet, [](const MachineSpec& s) { return s.rosetta; }},
    {kPlatformMacosGuest, kNever, "a spec describes Linux guests: it has no restore image and no hardware model"},
    {kPlatformUefi, kNotWired, kNotYet, [](const MachineSpec& s) { return !s.boot.firmware.empty(); }},
    {kPlatformTpm, kNever, "no SDK has a TPM class", [](const MachineSpec& s) { return s.tpm.has_value(); }},
    {kPlatformWatchdog, kNever, "there is no such device before macOS 27",
     [](const MachineSpec& s) { return s.watchdog.has_value(); }},
    {kPlatformGraphics, kNotWired, kNotYet, [](const MachineSpec& s) { return s.graphics.has_value(); }},
    {kPlatformAudio, kNotWired, kNotYet, [](const MachineSpec& s) { return s.audio; }},
    {kPlatformUsb, kNotWired, kNotYet, [](const MachineSpec& s) { return s.usb; }},
    {kPlatformGenerationId, kNever, "there is no such device, and no two copies of one state can run at once",
     [](const MachineSpec& s) { return s.generation_id; }},
    {kPlatformNested, kNotWired, kNotYet, [](const MachineSpec& s) { return s.nested_virtualization; }},
    {kDebugPvpanic, kNever, "there is no such device", [](const MachineSpec& s) { return s.pvpanic; }},
    {kDebugNmi, kNever, "there is no such call"},
    {kDebugCoredump, kNever, "there is no such call"},
    {kDeviceRemove, kNotWired, kNotYet},
    {kVmmPing, kYes, "mayfly-vz probe"},
    {kVmmInfo, kYes, "Info and status"},
    {kVmmShutdown, kYes, "the helper ends with the machine"},
    {kVmmApiMode, kYes, "the helper's control socket"},
    {kVmmCliMode, kNotWired, "a machine is told to the helper on its control socket, not by words of a command line"},
});
static_assert(kRows.size() == kCapabilityCount, "one row for each capability of matrix/capabilities.json");

}  // namespace

const DriverCapability& RowOf(Capability capability) { return kRows.at(static_cast<size_t>(capability)); }

void RefuseWhatIsNotOffered(const MachineSpec& spec) { internal::RefuseWhatIsNotOffered(kRows, "vz", spec); }

}  // namespace mayfly::vz
