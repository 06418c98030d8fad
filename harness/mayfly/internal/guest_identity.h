// What a copy of a guest is called and addressed by, different from all its siblings.
#pragma once

#include <mayfly/agent.h>
#include <mayfly/snapshot.h>

#include <cstddef>
#include <string>

namespace mayfly::internal {

std::string RandomDigits(size_t count);  // hexadecimal

// Host name of `copy`, a new machine id, and the addresses that differ from those in the snapshot.
GuestIdentity IdentityOfCopy(const SnapshotInfo& info, const MachineSpec& copy);

}  // namespace mayfly::internal
