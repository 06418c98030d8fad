// How much memory this process may use: the host's, or less where a cgroup (a container, a CI job) limits it.
//
//   HostMemory memory = ReadHostMemory();     // {.total = 23.4 GiB, .available = 19.8 GiB}
#pragma once

#include <filesystem>

#include <mayfly/bytes.h>

namespace mayfly::internal {

struct HostMemory {
  Bytes total{};      // the smaller of what the host has and what the limits allow
  Bytes available{};  // what of it can be used now without swapping; page cache counts as available
};

// `root` is where /proc and /sys are found: tests give a directory of their own. What cannot be read sets no limit;
// without /proc/meminfo (macOS) both are the largest value.
HostMemory ReadHostMemory(const std::filesystem::path& root = "/");

}  // namespace mayfly::internal
