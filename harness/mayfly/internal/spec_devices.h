// What every backend makes for the devices of a spec.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>

#include <string>
#include <vector>

namespace mayfly::internal {

// The spec's disks and, after them, its seed. Throws as PrepareDisk does.
std::vector<PreparedDisk> PrepareDisks(const MachineSpec& spec, const Sandbox& sandbox);

// Where the virtiofsd of a share listens, in the VM's directory.
std::filesystem::path ShareSocket(const std::filesystem::path& directory, size_t index);

// Why copies of a machine with these devices could not each have their own; empty when they can: disks that are written
// to in their place, shares, pmem. The same for every backend.
std::string WhyDevicesAreNotCopied(const MachineSpec& spec);

// A locally administered unicast address; 40 random bits keep all VMs of a host apart.
std::string RandomMac();

}  // namespace mayfly::internal
