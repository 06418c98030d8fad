// The QEMU backend: probes the host and makes machines.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/disk_image.h>

#include <fstream>

#include "drivers/qemu/accelerator.h"
#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/qemu_machine.h"
#include "drivers/qemu/qemu_program.h"

namespace mayfly::internal {
namespace {

constexpr const char* kName = "qemu";

HostCheck QemuImgCheck() {
  try {
    return {"qemu-img", HostCheck::Result::kPass, FindProgram(QemuImgProgram())->string(), ""};
  } catch (const HostLacks& error) {
    return {"qemu-img", HostCheck::Result::kWarn, error.text().summary, error.text().next_step};
  }
}

HostCheck KvmCheck(const QemuProgram& qemu) {
  KvmState state = KnownKvmState(qemu);
  bool usable = state.verdict == KvmState::Verdict::kUsable;
  return {"kvm", usable ? HostCheck::Result::kPass : HostCheck::Result::kWarn,
          state.detail + (state.verdict == KvmState::Verdict::kUnusable ? ": software emulation is used" : ""),
          state.fix};
}

HostCheck CloneCheck() {
  std::filesystem::path directory = RuntimeDirectory();
  return {"clone", HostCheck::Result::kPass,
          fmt::format("{}: {}", directory.string(),
                      HasReflink(directory) ? "reflinks" : "no reflink, so clones of disks are qcow2 overlays"),
          ""};
}

class QemuDriver final : public Driver {
 public:
  std::string_view Name() const override { return kName; }
  ProbeReport Probe() override;
  std::unique_ptr<Machine> Create(const MachineSpec& spec, Sandbox sandbox) override;
  std::unique_ptr<Machine> Adopt(ReleasedMachine machine, UniqueFd agent) override {
    return std::make_unique<QemuMachine>(std::move(machine), std::move(agent));
  }
  std::string WhyNoCopies(const MachineSpec& spec) const override { return WhyQemuCannotCopy(spec); }
  std::string CopyIdentity(const MachineSpec& spec) const override;
};

ProbeReport QemuDriver::Probe() {
  ProbeReport report;
  std::string missing;
  std::string fix;
  try {
    QemuProgram qemu = FindQemu();
    report.usable = true;
    report.version = qemu.Text();
    report.checks = {{"qemu", HostCheck::Result::kPass, qemu.Text(), ""}, KvmCheck(qemu), QemuImgCheck(), CloneCheck()};
  } catch (const Error& error) {
    missing = error.text().summary;
    fix = error.text().next_step;
    report.checks.push_back({"qemu", HostCheck::Result::kFail, missing, fix});
  }
  for (Capability capability : AllCapabilities()) {
    const DriverCapability& row = QemuCapabilityOf(capability);
    bool wired = row.support == Support::kYes;
    report.capabilities.push_back({.capability = capability,
                                   .available = wired && report.usable,
                                   .reason = wired && !report.usable ? missing : std::string(row.reason),
                                   .fix = wired && !report.usable ? fix : ""});
  }
  return report;
}

std::string QemuDriver::CopyIdentity(const MachineSpec& spec) const {
  QemuProgram qemu = FindQemu();
  bool kvm = ChooseAccelerator(spec.accelerator, qemu, spec.boot.kernel).kvm;
  // The guest counts time by the host's time stamp counter. In MHz: each boot of the host measures it a little
  // otherwise.
  constexpr uint64_t kMhz = 1000;
  return fmt::format("{} {} {} {}", qemu.Text(), kvm ? "kvm" : "tcg", (HostTscKhz() + kMhz / 2) / kMhz,
                     fmt::join(ExtraQemuArguments(), " "));
}

// With a TPM's log QEMU's ACPI tables are larger than it takes into account when it places the initramfs of a kernel
// that it starts by its PVH entry, and are overwritten by that. A compressed kernel places it itself.
void RequireKernelBesideTpm(const MachineSpec& spec) {
  if (!spec.tpm || !spec.boot.firmware.empty() || spec.boot.initramfs.empty()) return;
  std::string magic(4, '\0');
  std::ifstream(spec.boot.kernel, std::ios::binary).read(magic.data(), static_cast<std::streamsize>(magic.size()));
  if (magic !=
      "\x7f"
      "ELF")
    return;
  throw BadSpec(
      {.summary = fmt::format("spec: tpm: QEMU loses its ACPI tables when it starts an uncompressed kernel ({}) "
                              "beside a TPM",
                              spec.boot.kernel),
       .next_step = "use image \"tiny-generic\", which has a compressed kernel too, or give boot.kernel a bzImage"});
}

std::unique_ptr<Machine> QemuDriver::Create(const MachineSpec& spec, Sandbox sandbox) {
  QemuProgram qemu = FindQemu();
  RefuseWhatIsNotOffered(spec);
  if (spec.boot.kernel.empty() && spec.boot.firmware.empty()) {
    throw BadSpec({.summary = "spec: boot.kernel: there is nothing to boot",
                   .next_step = "name an image, or give boot.kernel the path of a Linux kernel"});
  }
  RequireKernelBesideTpm(spec);
  return std::make_unique<QemuMachine>(std::move(qemu), spec, std::move(sandbox));
}

}  // namespace

std::unique_ptr<Driver> MakeDriver_qemu();
std::unique_ptr<Driver> MakeDriver_qemu() { return std::make_unique<QemuDriver>(); }

}  // namespace mayfly::internal
