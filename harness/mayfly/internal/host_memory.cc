#include <mayfly/internal/host_memory.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

namespace mayfly::internal {
namespace {

// Where a version of cgroups keeps the figures of a group's memory.
struct CgroupMemory {
  std::string_view mount;
  std::string_view limit;
  std::string_view usage;
  std::string_view inactive_file;  // key in memory.stat: page cache that goes first
};
constexpr CgroupMemory kUnified = {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
constexpr CgroupMemory kLegacy = {"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_inactive_file"};

// The number after `key` in lines of "key number" or "key: number kB"; nothing when there is none ("max").
std::optional<uint64_t> Lookup(const std::filesystem::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string word;
    uint64_t number = 0;
    if (!key.empty() && !(words >> word && word == key)) continue;
    if (words >> number) return number;
  }
  return std::nullopt;
}

std::optional<uint64_t> ReadNumber(const std::filesystem::path& file) { return Lookup(file, {}); }

// Takes the limits of a group and of all groups above it into account.
void ApplyGroup(const std::filesystem::path& root, const CgroupMemory& kind, std::filesystem::path group,
                HostMemory& memory) {
  const std::filesystem::path mount = root / kind.mount;
  while (true) {
    std::filesystem::path directory = mount / group.relative_path();
    std::optional<uint64_t> limit = ReadNumber(directory / kind.limit);
    if (limit) {
      uint64_t usage = ReadNumber(directory / kind.usage).value_or(0);
      uint64_t cache = Lookup(directory / "memory.stat", kind.inactive_file).value_or(0);
      uint64_t used = usage - std::min(usage, cache);
      memory.total = std::min(memory.total, Bytes(*limit));
      memory.available = std::min(memory.available, Bytes(*limit - std::min(*limit, used)));
    }
    if (group == group.parent_path()) return;
    group = group.parent_path();
  }
}

}  // namespace

HostMemory ReadHostMemory(const std::filesystem::path& root) {
  const std::filesystem::path meminfo = root / "proc/meminfo";
  std::optional<uint64_t> total = Lookup(meminfo, "MemTotal:");
  std::optional<uint64_t> available = Lookup(meminfo, "MemAvailable:");
  HostMemory memory{.total = total ? Bytes(*total << 10) : Bytes(UINT64_MAX),
                    .available = available ? Bytes(*available << 10) : Bytes(UINT64_MAX)};

  // Lines such as "0::/user.slice/x" (unified) and "4:cpu,memory:/docker/x" (legacy).
  std::ifstream groups(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    size_t first = line.find(':');
    size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::filesystem::path group = line.substr(second + 1);
    if (!group.is_absolute()) continue;
    if (controllers == ",,") ApplyGroup(root, kUnified, group, memory);
    if (controllers.find(",memory,") != std::string::npos) ApplyGroup(root, kLegacy, group, memory);
  }
  memory.available = std::min(memory.available, memory.total);
  return memory;
}

}  // namespace mayfly::internal
