// What QEMU is told of a disk, a NIC and the like, as JSON: the same for its command line and for hotplug over QMP.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/spec.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/qemu/machine_type.h"

namespace mayfly::internal {

// The names under which QEMU knows a spec's devices.
std::string DiskDevice(std::string_view id);    // "disk-ID": the device
std::string DiskNode(std::string_view id);      // "image-ID": the block node at the top
std::string DiskThrottle(std::string_view id);  // "limit-ID": the throttle group
std::string NicDevice(std::string_view id);     // "nic-ID": the device
std::string NicPort(std::string_view id);       // "net-ID": its port of its hub
std::string HotplugSlot(size_t index);          // "slot-N": the PCI Express port

// DIMMs that can be added to a machine with max_memory.
inline constexpr size_t kMemorySlots = 16;

// A disk: an optional throttle group (-object), its node (-blockdev) and its device (-device).
bool NeedsThrottle(const Disk& disk);
nlohmann::json ThrottleGroup(std::string_view id, const RateLimit& limit);
nlohmann::json ThrottleLimits(const RateLimit& limit);
nlohmann::json BlockNode(const PreparedDisk& disk);
nlohmann::json DiskDeviceOptions(const PreparedDisk& disk, const MachineType& machine);

// QEMU gives a NIC one network for life. So each is a port of a hub of its own, and a wire at another port of that
// connects it to something, which may be another wire later. A wire is a backend and its port, by its number.
struct NicPlace {
  size_t hub = 0;
  size_t wire = 0;
};
std::string WireBackend(size_t wire);                                  // "wire-N"
std::string WirePort(size_t wire);                                     // "port-N"
nlohmann::json NicPortOptions(const Nic& nic, const NicPlace& place);  // -netdev
// The backend and then its port (-netdev); nothing for a NIC that is connected to nothing. `directory` takes the
// sockets of its own end; `tap`: the descriptor of a TAP device, by number or name, empty: it is opened by its name.
std::vector<nlohmann::json> WireOptions(const Nic& nic, const NicPlace& place, const std::filesystem::path& directory,
                                        const std::string& tap);
nlohmann::json NicDeviceOptions(const Nic& nic, const MachineType& machine);

// Room in a zone (-object, -device): memory of the zone's node that the guest gets when it is asked for.
inline constexpr Bytes kZoneBlock(uint64_t{4} << 20);  // Linux takes no less at a time
bool CanGrow(const MemoryZone& zone);
std::string ZoneRoom(std::string_view id);    // "room-ID": the memory
std::string ZoneDevice(std::string_view id);  // "zone-ID": the device
nlohmann::json ZoneDeviceOptions(const MemoryZone& zone, size_t node);

// A share: the way to its virtiofsd (chardev-add) and its device. `number`: of its socket.
std::string ShareChannel(size_t number);  // "shareN"
std::string ShareDevice(size_t number);   // "fs-N"
nlohmann::json ShareChannelOptions(size_t number, const std::filesystem::path& directory);
nlohmann::json ShareDeviceOptions(const Share& share, size_t number, const MachineType& machine);

// A vsock. `vhost`: its descriptor of /dev/vhost-vsock, by number or name; empty: QEMU opens that.
nlohmann::json VsockDeviceOptions(uint32_t cid, const std::string& vhost, const MachineType& machine);

// A PCI device of the host, by VFIO.
std::string PassthroughDevice(std::string_view id);  // "host-ID"
nlohmann::json PassthroughDeviceOptions(const Passthrough& device);

// Where the swtpm of the TPM listens, in the VM's directory.
std::filesystem::path TpmSocket(const std::filesystem::path& directory);

// QEMU's word for what happens when the watchdog fires.
std::string_view WatchdogActionName(WatchdogAction action);

}  // namespace mayfly::internal
