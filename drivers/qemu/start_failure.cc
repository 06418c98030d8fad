#include "drivers/qemu/start_failure.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/start_failure.h>

#include <array>
#include <utility>

namespace mayfly::internal {
namespace {

constexpr std::array kRows = {
    Refusal{"could not load kernel", Fault::kSpec, "QEMU cannot load its kernel",
            "boot.kernel has to be a Linux bzImage or an uncompressed vmlinux for x86-64"},
    Refusal{"invalid kernel header", Fault::kSpec, "its kernel is none that QEMU can boot",
            "boot.kernel has to be a Linux bzImage or an uncompressed vmlinux for x86-64"},
    Refusal{"Error loading uncompressed kernel without PVH ELF Note", Fault::kSpec,
            "its kernel is uncompressed and cannot be booted directly",
            "give the bzImage (vmlinuz), or a vmlinux built with CONFIG_PVH"},
    Refusal{"could not load initrd", Fault::kSpec, "QEMU cannot load its initramfs", "check boot.initramfs"},
    Refusal{"could not open initrd", Fault::kSpec, "QEMU cannot load its initramfs", "check boot.initramfs"},
    Refusal{"Failed to get", Fault::kHost, "one of its disks is in use by another process",
            "give the disk \"clone\": true, or stop the VM that has it"},
    Refusal{"Address already in use", Fault::kHost, "a socket of its is in use by another process",
            "give each NIC a socket of its own"},
    Refusal{"No space left on device", Fault::kHost, "the host's disk is full",
            "free some space, or choose another place for VMs by MAYFLY_RUNTIME_DIR"},
    Refusal{"cannot set up guest memory", Fault::kHost, "the host has not enough memory for it",
            "give the VM less memory, or run fewer at once"},
    Refusal{"unable to map backing store", Fault::kHost, "the host has not enough huge pages for it",
            "reserve some: sudo sysctl vm.nr_hugepages=N (2 MiB each)"},
    Refusal{"Cannot allocate memory", Fault::kHost, "the host has not enough memory for it",
            "give the VM less memory, or run fewer at once"},
    Refusal{"Could not access KVM kernel module", Fault::kHost, "KVM cannot be used",
            "MAYFLY_ACCEL=tcg uses software emulation"},
    Refusal{"failed to initialize kvm", Fault::kHost, "KVM cannot be used", "MAYFLY_ACCEL=tcg uses software emulation"},
    Refusal{"load of migration failed", Fault::kHost, "its saved state cannot be read",
            "MAYFLY_VERIFY=1 compares templates with their checksums and builds damaged ones again"},
    Refusal{"Permission denied", Fault::kHost, "QEMU may not open one of its files", ""},
};

}  // namespace

void ThrowQemuDidNotStart(const StartFailure& failure) {
  ErrorText text{.summary = fmt::format("cannot {} '{}' (qemu, {}): ", failure.restore ? "restore" : "boot",
                                        failure.name, failure.machine)};
  for (const std::string& line : failure.last_words) text.notes.push_back(line);
  text.notes.push_back(failure.version);
  ThrowIfKnown(kRows, failure.last_words, text);
  text.summary += failure.last_words.empty() ? failure.trouble + "; " + failure.ended : failure.ended;
  text.next_step = failure.restore ? "boot it instead: MAYFLY_FORK=off makes no copies"
                                   : fmt::format("all that QEMU wrote is in {}", failure.log.string());
  throw VmmDied(std::move(text));
}

}  // namespace mayfly::internal
