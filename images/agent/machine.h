// Powering the guest off, as process 1.
#pragma once

#include "loop.h"

namespace mayfly::agent {

enum class PowerChange { kPowerOff, kReboot, kHalt };

// SIGTERM to all processes, SIGKILL to what is left two seconds later, file systems read-only, then reboot(2). Returns;
// the loop does the rest.
void BeginShutdown(Loop& loop, PowerChange change);

}  // namespace mayfly::agent
