// What the Cloud Hypervisor driver offers.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/internal/driver_capabilities.h>
#include <mayfly/spec.h>

#include <string>

namespace mayfly::ch {

const internal::DriverCapability& RowOf(Capability capability);

// Throws Unsupported for the first thing that the spec asks for and the driver does not offer.
void RefuseWhatIsNotOffered(const MachineSpec& spec);

// Why machines of this spec cannot be saved and restored as copies; empty when they can.
std::string WhyCannotSave(const MachineSpec& spec);

}  // namespace mayfly::ch
