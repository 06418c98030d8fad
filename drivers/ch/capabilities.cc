#include "drivers/ch/capabilities.h"

#include <mayfly/errors.h>

#include <algorithm>
#include <array>
#include <string>

namespace mayfly::ch {
namespace {

using enum Capability;
using enum internal::Support;
using internal::DriverCapability;
using internal::HasNic;
using internal::HasPassthrough;
using internal::kNotYet;

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
    {kStorageCache, kNotWired, kNotYet},
    {kStorageRateLimit, kNotWired, kNotYet},
    {kStoragePmem, kYes, "virtio-pmem"},
    {kNetworkNat, kNotWired, kNotYet, HasNic<NicKind::kNat>},
    {kNetworkTap, kYes, "a TAP device, of the host or made by the VMM"},
    {kNetworkSocketpair, kNotWired, kNotYet, HasNic<NicKind::kSocket>},
    {kNetworkMac, kYes, "net.mac"},
    {kNetworkHotplug, kNotWired, kNotYet},
    {kNetworkBridged, kNotWired, kNotYet, HasNic<NicKind::kBridged>},
    {kNetworkVhostUser, kNotWired, kNotYet, HasNic<NicKind::kVhostUser>},
    {kNetworkAttachmentSwap, kNever, "a NIC keeps its backend; vm.remove-device and vm.add-net give another NIC"},
    {kShareVirtiofs, kYes, "a virtiofsd for each share"},
    {kShareReadOnly, kYes, "virtiofsd --readonly, or a read-only bind mount under the virtiofsd of QEMU"},
    {kShareHotplug, kNotWired, kNotYet},
    {kSerialFile, kYes, "standard output of the VMM, appended to console.log"},
    {kSerialReadiness, kYes, "the console log is followed as it is written"},
    {kSerialPty, kNotWired, kNotYet, [](const MachineSpec& s) { return s.serial == SerialKind::kPty; }},
    {kSerialSocket, kNotWired, kNotYet, [](const MachineSpec& s) { return s.serial == SerialKind::kSocket; }},
    {kEntropyRng, kYes, "virtio-rng, which every machine has"},
    {kStatePause, kYes, "vm.pause and vm.resume"},
    {kStateSnapshot, kNotWired, kNotYet},
    {kStateRestore, kNotWired, kNotYet},
    {kStateMigration, kNotWired, kNotYet},
    {kStateCounters, kYes, "vm.counters"},
    {kPassthroughVfio, kNotWired, kNotYet, HasPassthrough<PassthroughKind::kVfio>},
    {kPassthroughVdpa, kNotWired, kNotYet, HasPassthrough<PassthroughKind::kVdpa>},
    {kPassthroughVfioUser, kNotWired, kNotYet, HasPassthrough<PassthroughKind::kVfioUser>},
    {kPassthroughHotplug, kNotWired, kNotYet},
    {kIntervmVsock, kYes, "vsock.sock in the directory of the VM"},
    {kIntervmVsockHotplug, kNotWired, kNotYet},
    {kIntervmL2Switch, kNotWired, kNotYet},
    {kPlatformRosetta, kNever, "Rosetta exists on Apple silicon only", [](const MachineSpec& s) { return s.rosetta; }},
    {kPlatformMacosGuest, kNever, "macOS runs as a guest of Apple's hosts only"},
    {kPlatformUefi, kNotWired, kNotYet, [](const MachineSpec& s) { return !s.boot.firmware.empty(); }},
    {kPlatformTpm, kNotWired, kNotYet, [](const MachineSpec& s) { return s.tpm.has_value(); }},
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

void RefuseWhatIsNotOffered(const MachineSpec& spec) { internal::RefuseWhatIsNotOffered(kRows, "ch", spec); }

}  // namespace mayfly::ch
