// The control groups that limit what this process may use of the host: its own and all above it.
//
//   for (const Cgroup& group : CgroupsOf("/", "memory")) {       // innermost first
//     group.directory / (group.unified ? "memory.max" : "memory.limit_in_bytes");
//   }
//
// Both versions are looked at, because a host may use one for some controllers and the other for the rest; a file that
// is not there sets no limit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace mayfly::internal {

struct Cgroup {
  bool unified = true;  // version 2, else 1
  std::filesystem::path directory{};
};

// `root` is where /proc and /sys are found: tests give a directory of their own.
std::vector<Cgroup> CgroupsOf(const std::filesystem::path& root, std::string_view controller);

// The number after `key` in lines of "key number" or "key: number kB", or without a key the number that the file begins
// with; nothing when there is none ("max").
std::optional<uint64_t> NumberIn(const std::filesystem::path& file, std::string_view key = {});

}  // namespace mayfly::internal
