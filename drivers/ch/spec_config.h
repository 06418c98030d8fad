// A spec as Cloud Hypervisor's configuration.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/spec.h>

#include <filesystem>
#include <string>
#include <vector>

#include "drivers/ch/config.h"

namespace mayfly::ch {

// The port of the host at which the guest's agent knocks (mayfly.vsock).
inline constexpr uint32_t kAgentPort = 28006;

// What the VM's directory has besides its disks.
inline constexpr const char* kVsockFile = "vsock.sock";
inline constexpr const char* kSerialSocket = "serial.sock";
inline constexpr const char* kTpmSocket = "tpm.sock";
inline constexpr const char* kTpmState = "tpm";  // a directory

DiskConfig ConfigOf(const internal::PreparedDisk& disk);
// The TAP device of a NIC: the spec's, else one that Cloud Hypervisor makes under a name that follows from the MAC.
std::string TapOf(const Nic& nic);
// A NIC of kind tap, or of kind none, which is a TAP device that nobody uses; with a MAC.
NetConfig ConfigOf(const Nic& nic);

FsConfig ConfigOf(const Share& share, const std::filesystem::path& socket);
PmemConfig ConfigOf(const Pmem& pmem);
// Of the kind that the name says.
DeviceConfig VfioConfigOf(const Passthrough& device);
VdpaConfig VdpaConfigOf(const Passthrough& device);
UserDeviceConfig VfioUserConfigOf(const Passthrough& device);

// Whether other processes can serve devices from the guest's memory: where the spec has such devices, and where it asks
// for the machine with hotplug, which may get some. Other guests have the faster memory.
bool HasSharedMemory(const MachineSpec& spec);
void ShareMemory(VmConfig& config);

// Where the agent is awaited, in the VM's directory.
std::filesystem::path AgentSocket(const std::filesystem::path& directory);

// The machine with its console on the VMM's standard output. `spec` passes RefuseWhatIsNotOffered and its NICs have
// MACs. Throws BadSpec for values that Cloud Hypervisor cannot take.
VmConfig ConfigOf(const MachineSpec& spec, const std::vector<internal::PreparedDisk>& disks,
                  const std::filesystem::path& directory);

// A command line that starts the same machine without the API, for people: without its agent, which needs a host.
std::vector<std::string> CommandLineOf(const std::string& program, const VmConfig& config,
                                       const std::filesystem::path& console);

}  // namespace mayfly::ch
