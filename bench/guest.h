// The guest that all benchmarks of a process share: image tiny, booted on first use, gone before main returns.
#pragma once

#include <mayfly/vm.h>

namespace mayfly::bench {

Vm& Guest();

// Ends it. The ssh server in it (ssh_guest.h) goes first.
void ReleaseGuest();

}  // namespace mayfly::bench
