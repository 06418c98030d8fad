// How much of the host's processors this process may use.
//
//   double cpus = ReadHostCpus();      // 2, or 1.5 in a container with that quota
#pragma once

#include <filesystem>

namespace mayfly::internal {

// The CPUs that this process may run on, or the quota of a control group when that is less; more than nothing. `root`
// is where /proc and /sys are found: tests give a directory of their own.
double ReadHostCpus(const std::filesystem::path& root = "/");

}  // namespace mayfly::internal
