// The table of a driver: what it offers, one row for each capability of the matrix.
//
// The rows serve the probe (what is there on this host), Create (a spec that asks for what is not there is refused) and
// the operations of a machine (the reason in `Unsupported`), so the three cannot disagree.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/spec.h>

#include <algorithm>
#include <span>
#include <string_view>

namespace mayfly::internal {

enum class Support {
  kYes,       // wired
  kNotWired,  // the VMM has it, the driver does not offer it
  kNever,     // the VMM cannot have it
};

struct DriverCapability {
  Capability capability;
  Support support = Support::kYes;
  std::string_view reason;                      // kYes: how; else: why not
  bool (*asked)(const MachineSpec&) = nullptr;  // whether a spec asks for it; null: no field does
};

// The reason of rows that are not wired for no better one.
inline constexpr std::string_view kNotYet = "not wired in this driver yet";

// Fit for `asked`.
template <NicKind kind>
bool HasNic(const MachineSpec& spec) {
  return std::any_of(spec.nics.begin(), spec.nics.end(), [](const Nic& nic) { return nic.kind == kind; });
}
template <PassthroughKind kind>
bool HasPassthrough(const MachineSpec& spec) {
  return std::any_of(spec.passthrough.begin(), spec.passthrough.end(),
                     [](const Passthrough& device) { return device.kind == kind; });
}

// Throws Unsupported for the first row that the spec asks for and the driver does not offer.
void RefuseWhatIsNotOffered(std::span<const DriverCapability> rows, std::string_view driver, const MachineSpec& spec);

}  // namespace mayfly::internal
