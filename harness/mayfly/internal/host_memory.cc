#include <mayfly/internal/host_memory.h>

#include <mayfly/internal/cgroups.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mayfly::internal {
namespace {

// What the figures of a group's memory are called.
struct CgroupMemory {
  std::string_view limit;
  std::string_view usage;
  std::string_view inactive_file;  // key in memory.stat: page cache that goes first
};
constexpr CgroupMemory kUnified = {"memory.max", "memory.current", "inactive_file"};
constexpr CgroupMemory kLegacy = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};

void ApplyGroup(const Cgroup& group, HostMemory& memory) {
  const CgroupMemory& names = group.unified ? kUnified : kLegacy;
  std::optional<uint64_t> limit = NumberIn(group.directory / names.limit);
  if (!limit) return;
  uint64_t usage = NumberIn(group.directory / names.usage).value_or(0);
  uint64_t cache = NumberIn(group.directory / "memory.stat", names.inactive_file).value_or(0);
  uint64_t used = usage - std::min(usage, cache);
  memory.total = std::min(memory.total, Bytes(*limit));
  memory.available = std::min(memory.available, Bytes(*limit - std::min(*limit, used)));
}

}  // namespace

HostMemory ReadHostMemory(const std::filesystem::path& root) {
  const std::filesystem::path meminfo = root / "proc/meminfo";
  std::optional<uint64_t> total = NumberIn(meminfo, "MemTotal:");
  std::optional<uint64_t> available = NumberIn(meminfo, "MemAvailable:");
  HostMemory memory{.total = total ? Bytes(*total << 10) : Bytes(UINT64_MAX),
                    .available = available ? Bytes(*available << 10) : Bytes(UINT64_MAX)};
  for (const Cgroup& group : CgroupsOf(root, "memory")) ApplyGroup(group, memory);
  memory.available = std::min(memory.available, memory.total);
  return memory;
}

}  // namespace mayfly::internal
