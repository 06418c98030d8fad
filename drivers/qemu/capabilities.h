// What the QEMU driver offers: one row for each capability of the matrix.
//
// The rows serve the probe (what is there on this host), Create (a spec that asks for what is not there is refused) and
// the operations of a machine (the reason in `Unsupported`), so the three cannot disagree.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/spec.h>

#include <string_view>

namespace mayfly::internal {

enum class Support {
  kYes,       // wired
  kNotWired,  // QEMU has it, this driver does not offer it
  kNever,     // QEMU cannot have it
};

struct QemuCapability {
  Capability capability;
  Support support = Support::kYes;
  std::string_view reason;                      // kYes: how; else: why not
  bool (*asked)(const MachineSpec&) = nullptr;  // whether a spec asks for it; null: no field does
};

const QemuCapability& QemuCapabilityOf(Capability capability);

// Throws Unsupported for the first thing that the spec asks for and the driver does not offer.
void RefuseWhatIsNotOffered(const MachineSpec& spec);

// Why machines of this spec cannot be saved and restored as copies; empty when they can.
std::string WhyQemuCannotSave(const MachineSpec& spec);

}  // namespace mayfly::internal
