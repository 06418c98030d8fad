// How much of this host all VMs together may use.
//
//   HostBudget budget(HostBudget::FromEnvironment());
//   budget.whole();          // 22.1 GiB: what VMs could have if nothing else ran
//   budget.available();      // 19.4 GiB: what can be taken now
//
// Memory: what the host and the control groups of this process have (cgroup versions 1 and 2, the tightest on the way
// up), less a reserve, so that page cache, compilers and the tests themselves are never squeezed out: a sixteenth, at
// least 256 MiB and at most 2 GiB. MAYFLY_POOL_MEMORY ("8GiB") replaces all of that: then only the sum of what VMs were
// promised counts, even when the host has less.
//
// CPUs: eight virtual CPUs for each CPU that may be used. A guest of a test waits most of the time, for its console, a
// disk or the test's next command, and an idle one takes 0.2 % of a CPU even when it is emulated; eight that boot at
// once on one CPU take about as long as eight in a row and stay far inside the boot timeout, while fifty would not.
// Sharing a CPU only slows guests down, so the rule need not be strict: it delays starts and refuses none.
// MAYFLY_POOL_CPUS ("64") is the number of virtual CPUs instead.
#pragma once

#include <mayfly/bytes.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>

namespace mayfly::internal {

class HostBudget {
 public:
  struct Options {
    std::optional<Bytes> memory{};
    std::optional<uint32_t> cpus{};
    std::filesystem::path root = "/";  // where /proc and /sys are found: tests give a directory of their own
  };
  // MAYFLY_POOL_MEMORY and MAYFLY_POOL_CPUS. Throws BadSpec when they hold something else.
  static Options FromEnvironment();

  explicit HostBudget(Options options);

  // Everything is read anew: other programs come and go, and limits change.
  Bytes whole() const;
  // Of it, what nobody uses now; without limit when MAYFLY_POOL_MEMORY is set.
  Bytes available() const;
  // Virtual CPUs.
  double cpus() const;

  // The memory that a process has for itself and that would be free without it. What it shares is not counted: the
  // memory of the template is the same for all its forks.
  Bytes PrivateMemoryOf(pid_t pid) const;

 private:
  Bytes Reserve(Bytes total) const;

  const Options options_;
  const uint64_t page_size_;
};

}  // namespace mayfly::internal
