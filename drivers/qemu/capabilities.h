// What the QEMU driver offers.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/internal/driver_capabilities.h>
#include <mayfly/spec.h>

#include <string>

namespace mayfly::internal {

const DriverCapability& QemuCapabilityOf(Capability capability);

// Throws Unsupported for the first thing that the spec asks for and the driver does not offer.
void RefuseWhatIsNotOffered(const MachineSpec& spec);

// Why machines of this spec cannot be saved and go on; empty when they can.
std::string WhyQemuCannotSave(const MachineSpec& spec);
// Why they cannot be forked besides, sharing memory with copies of them; empty when they can.
std::string WhyQemuCannotCopy(const MachineSpec& spec);

}  // namespace mayfly::internal
