// What the Cloud Hypervisor driver offers: one row for each capability of the matrix, for the probe, for Create and for
// the reasons of a machine's refusals.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/spec.h>

#include <string_view>

namespace mayfly::ch {

enum class Support {
  kYes,       // wired
  kNotWired,  // Cloud Hypervisor has it, this driver does not offer it
  kNever,     // Cloud Hypervisor cannot have it
};

struct CapabilityRow {
  Capability capability;
  Support support = Support::kYes;
  std::string_view reason;                      // kYes: how; else: why not
  bool (*asked)(const MachineSpec&) = nullptr;  // whether a spec asks for it; null: no field does
};

const CapabilityRow& RowOf(Capability capability);

// Throws Unsupported for the first thing that the spec asks for and the driver does not offer.
void RefuseWhatIsNotOffered(const MachineSpec& spec);

}  // namespace mayfly::ch
