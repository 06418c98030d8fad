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

DiskConfig ConfigOf(const internal::PreparedDisk& disk);
// A NIC of kind tap, with a MAC.
NetConfig ConfigOf(const Nic& nic);

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
