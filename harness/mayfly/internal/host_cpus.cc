#include <mayfly/internal/host_cpus.h>

#include <mayfly/internal/cgroups.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>

namespace mayfly::internal {
namespace {

// The number of CPUs in "Cpus_allowed_list:  0-1,4"; 0 when there is no such line.
unsigned AllowedCpus(const std::filesystem::path& status) {
  constexpr std::string_view kKey = "Cpus_allowed_list:";
  std::ifstream file(status);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kKey)) continue;
    std::istringstream list(line.substr(kKey.size()));
    unsigned count = 0;
    for (std::string range; std::getline(list, range, ',');) {
      std::istringstream numbers(range);
      unsigned first = 0, last = 0;
      char dash = 0;
      if (!(numbers >> first)) continue;
      if (!(numbers >> dash >> last) || last < first) last = first;
      count += last - first + 1;
    }
    return count;
  }
  return 0;
}

// "150000 100000" (quota and period), "max 100000".
double UnifiedQuota(const std::filesystem::path& file) {
  std::ifstream in(file);
  double quota = 0, period = 0;
  return in >> quota >> period && period > 0 ? quota / period : std::numeric_limits<double>::infinity();
}

double QuotaOf(const Cgroup& group) {
  if (group.unified) return UnifiedQuota(group.directory / "cpu.max");
  uint64_t quota = NumberIn(group.directory / "cpu.cfs_quota_us").value_or(0);  // -1 (no limit) wraps around
  uint64_t period = NumberIn(group.directory / "cpu.cfs_period_us").value_or(0);
  if (quota == 0 || quota > INT64_MAX || period == 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(quota) / static_cast<double>(period);
}

}  // namespace

double ReadHostCpus(const std::filesystem::path& root) {
  unsigned allowed = AllowedCpus(root / "proc/self/status");
  if (allowed == 0) allowed = std::max(1U, std::thread::hardware_concurrency());
  double cpus = allowed;
  for (const Cgroup& group : CgroupsOf(root, "cpu")) cpus = std::min(cpus, QuotaOf(group));
  return std::max(cpus, 0.01);
}

}  // namespace mayfly::internal
