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

// A locally administered unicast address; 40 random bits keep all VMs of a host apart.
std::string RandomMac();

}  // namespace mayfly::internal
