// What this host's framework offers, for `mayfly-vz probe`.
#pragma once

#include <nlohmann/json.hpp>

namespace mayfly::vz {

// "simulated", "macos" ("26.0"), "supported", "entitled", "fault" (why no machine can be made, or empty), the limits of
// a machine, and, simulated, "guests_by".
nlohmann::json Probe();

}  // namespace mayfly::vz
