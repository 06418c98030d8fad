// What the driver of Virtualization.framework offers.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/internal/driver_capabilities.h>
#include <mayfly/spec.h>

namespace mayfly::vz {

const internal::DriverCapability& RowOf(Capability capability);

// Throws Unsupported for the first thing that the spec asks for and the driver does not offer.
void RefuseWhatIsNotOffered(const MachineSpec& spec);

}  // namespace mayfly::vz
