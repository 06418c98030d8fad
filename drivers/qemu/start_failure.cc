#include "drivers/qemu/start_failure.h"

#include <fmt/format.h>
#include <mayfly/errors.h>

#include <array>
#include <string_view>

namespace mayfly::internal {
namespace {

enum class Fault { kSpec, kHost };

struct WordsRow {
  std::string_view words;  // in what QEMU wrote
  Fault fault;
  std::string_view summary;
  std::string_view next_step;
};
constexpr std::array kRows = {
    WordsRow{"could not load kernel", Fault::kSpec, "QEMU cannot load its kernel",
             "boot.kernel has to be a Linux bzImage or an uncompressed vmlinux for x86-64"},
    WordsRow{"invalid kernel header", Fault::kSpec, "its kernel is none that QEMU can boot",
             "boot.kernel has to be a Linux bzImage or an uncompressed vmlinux for x86-64"},
    WordsRow{"Error loading uncompressed kernel without PVH ELF Note", Fault::kSpec,
             "its kernel is uncompressed and cannot be booted directly",
             "give the bzImage (vmlinuz), or a vmlinux built with CONFIG_PVH"},
    WordsRow{"could not load initrd", Fault::kSpec, "QEMU cannot load its initramfs", "check boot.initramfs"},
    WordsRow{"could not open initrd", Fault::kSpec, "QEMU cannot load its initramfs", "check boot.initramfs"},
    WordsRow{"Failed to get", Fault::kHost, "one of its disks is in use by another process",
             "give the disk \"clone\": true, or stop the VM that has it"},
    WordsRow{"Address already in use", Fault::kHost, "a socket of its is in use by another process",
             "give each NIC a socket of its own"},
    WordsRow{"No space left on device", Fault::kHost, "the host's disk is full",
             "free some space, or choose another place for VMs by MAYFLY_RUNTIME_DIR"},
    WordsRow{"cannot set up guest memory", Fault::kHost, "the host has not enough memory for it",
             "give the VM less memory, or run fewer at once"},
    WordsRow{"unable to map backing store", Fault::kHost, "the host has not enough huge pages for it",
             "reserve some: sudo sysctl vm.nr_hugepages=N (2 MiB each)"},
    WordsRow{"Cannot allocate memory", Fault::kHost, "the host has not enough memory for it",
             "give the VM less memory, or run fewer at once"},
    WordsRow{"Could not access KVM kernel module", Fault::kHost, "KVM cannot be used",
             "MAYFLY_ACCEL=tcg uses software emulation"},
    WordsRow{"failed to initialize kvm", Fault::kHost, "KVM cannot be used",
             "MAYFLY_ACCEL=tcg uses software emulation"},
    WordsRow{"load of migration failed", Fault::kHost, "its saved state cannot be read",
             "MAYFLY_VERIFY=1 compares templates with their checksums and builds damaged ones again"},
    WordsRow{"Permission denied", Fault::kHost, "QEMU may not open one of its files", ""},
};

}  // namespace

void ThrowQemuDidNotStart(const StartFailure& failure) {
  ErrorText text{.summary = fmt::format("cannot {} '{}' (qemu, {}): ", failure.restore ? "restore" : "boot",
                                        failure.name, failure.machine)};
  for (const std::string& line : failure.last_words) text.notes.push_back(line);
  text.notes.push_back(failure.version);
  for (const WordsRow& row : kRows) {
    for (const std::string& line : failure.last_words) {
      if (line.find(row.words) == std::string::npos) continue;
      text.summary += row.summary;
      text.next_step = row.next_step;
      if (row.fault == Fault::kSpec) throw BadSpec(std::move(text));
      throw HostLacks(std::move(text));
    }
  }
  text.summary += failure.last_words.empty() ? failure.trouble + "; " + failure.ended : failure.ended;
  text.next_step = failure.restore ? "boot it instead: MAYFLY_FORK=off makes no copies"
                                   : fmt::format("all that QEMU wrote is in {}", failure.log.string());
  throw VmmDied(std::move(text));
}

}  // namespace mayfly::internal
