#include "daemon/host_budget.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/host_cpus.h>
#include <mayfly/internal/host_memory.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

namespace mayfly::internal {
namespace {

using literals::operator""_GiB;
using literals::operator""_MiB;

constexpr Bytes kLeastReserve = 256_MiB;
constexpr Bytes kMostReserve = 2_GiB;
constexpr double kVirtualCpusPerCpu = 8;

std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return value != nullptr ? value : "";
}

}  // namespace

HostBudget::Options HostBudget::FromEnvironment() {
  Options options;
  if (std::string_view text = Environment("MAYFLY_POOL_MEMORY"); !text.empty()) {
    options.memory = Bytes::Parse(text);
    if (!options.memory || *options.memory == Bytes()) {
      throw BadSpec({.summary = fmt::format("MAYFLY_POOL_MEMORY: \"{}\" is no size; allowed: a number above 0 with K, "
                                            "M, G or T, such as 8G",
                                            text)});
    }
  }
  if (std::string_view text = Environment("MAYFLY_POOL_CPUS"); !text.empty()) {
    uint32_t cpus = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpus);
    if (error != std::errc() || end != text.data() + text.size() || cpus == 0) {
      throw BadSpec({.summary = fmt::format("MAYFLY_POOL_CPUS: \"{}\" is no count; allowed: a whole number above 0, "
                                            "such as 64",
                                            text)});
    }
    options.cpus = cpus;
  }
  return options;
}

HostBudget::HostBudget(Options options)
    : options_(std::move(options)), page_size_(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) {}

Bytes HostBudget::Reserve(Bytes total) const {
  // Where a container has next to nothing, a quarter has to do.
  Bytes least = std::min(kLeastReserve, Bytes(total.count() / 4));
  return std::clamp(Bytes(total.count() / 16), least, kMostReserve);
}

Bytes HostBudget::whole() const {
  if (options_.memory) return *options_.memory;
  Bytes total = ReadHostMemory(options_.root).total;
  return total - Reserve(total);
}

Bytes HostBudget::available() const {
  if (options_.memory) return Bytes(UINT64_MAX);
  HostMemory host = ReadHostMemory(options_.root);
  return host.available - std::min(host.available, Reserve(host.total));
}

double HostBudget::cpus() const {
  return options_.cpus ? *options_.cpus : std::max(1.0, kVirtualCpusPerCpu * ReadHostCpus(options_.root));
}

Bytes HostBudget::PrivateMemoryOf(pid_t pid) const {
  // "size resident shared …", in pages.
  std::ifstream file(options_.root / "proc" / std::to_string(pid) / "statm");
  uint64_t size = 0, resident = 0, shared = 0;
  if (!(file >> size >> resident >> shared) || resident < shared) return {};
  return Bytes((resident - shared) * page_size_);
}

}  // namespace mayfly::internal
