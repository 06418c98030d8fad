// Hardware virtualisation or software emulation?
//
// A /dev/kvm that opens proves nothing: on some hosts VMs are created and stock kernels then hang. So KVM is used only
// where a canary has come through: the kernel that shall be booted, without a root disk, must reach its panic about
// that within two seconds. The verdict holds for this boot of the host, this QEMU and this kernel and is kept in the
// cache directory.
//
// $MAYFLY_ACCEL overrides it for specs that leave the choice: kvm, tcg or auto.
#pragma once

#include <mayfly/spec.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "drivers/qemu/qemu_program.h"

namespace mayfly::internal {

struct AcceleratorChoice {
  bool kvm = false;
  std::string reason{};  // "/dev/kvm opens, but a canary guest did not boot in 2.0 s"
};

// Takes up to two seconds the first time that a kernel is booted on a host with /dev/kvm. Throws HostLacks when the
// spec insists on hardware and this host has none that works, BadSpec for a wrong MAYFLY_ACCEL.
AcceleratorChoice ChooseAccelerator(Accelerator wanted, const QemuProgram& qemu, const std::filesystem::path& kernel);

// What is known without booting anything, for probes. `fix`: what a user can do about it.
struct KvmState {
  enum class Verdict { kUsable, kUnusable, kUntried };
  Verdict verdict = Verdict::kUntried;
  std::string detail{};
  std::string fix{};
};
KvmState KnownKvmState(const QemuProgram& qemu);

// The frequency of this host's time stamp counter in kHz, measured once (2 ms); 0 where there is none.
uint64_t HostTscKhz();

}  // namespace mayfly::internal
