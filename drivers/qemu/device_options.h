// What QEMU is told of a disk, a NIC and the like, as JSON: the same for its command line and for hotplug over QMP.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/spec.h>

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "drivers/qemu/machine_type.h"

namespace mayfly::internal {

// The names under which QEMU knows a spec's devices.
std::string DiskDevice(std::string_view id);    // "disk-ID": the device
std::string DiskNode(std::string_view id);      // "image-ID": the block node at the top
std::string DiskThrottle(std::string_view id);  // "limit-ID": the throttle group
std::string NicDevice(std::string_view id);     // "nic-ID": the device
std::string NicBackend(std::string_view id);    // "net-ID": the netdev
std::string HotplugSlot(size_t index);          // "slot-N": the PCI Express port

// DIMMs that can be added to a machine with max_memory.
inline constexpr size_t kMemorySlots = 16;

// A disk: an optional throttle group (-object), its node (-blockdev) and its device (-device).
bool NeedsThrottle(const Disk& disk);
nlohmann::json ThrottleGroup(std::string_view id, const RateLimit& limit);
nlohmann::json ThrottleLimits(const RateLimit& limit);
nlohmann::json BlockNode(const PreparedDisk& disk);
nlohmann::json DiskDeviceOptions(const PreparedDisk& disk, const MachineType& machine);

// A NIC: its backend (-netdev) and its device (-device). `directory` takes the sockets of its own end. The backend
// is null when the NIC is connected to nothing.
nlohmann::json NetworkBackend(const Nic& nic, const std::filesystem::path& directory);
nlohmann::json NicDeviceOptions(const Nic& nic, const MachineType& machine);

// Where the swtpm of the TPM listens, in the VM's directory.
std::filesystem::path TpmSocket(const std::filesystem::path& directory);

// QEMU's word for what happens when the watchdog fires.
std::string_view WatchdogActionName(WatchdogAction action);

}  // namespace mayfly::internal
