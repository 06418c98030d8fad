// The backend of Apple's Virtualization.framework: probes the host and makes machines. On Linux its helper is built
// over a facsimile of the framework; all that comes of it says that it is simulated.
#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>

#include <array>
#include <memory>
#include <string>

#include "drivers/vz/capabilities.h"
#include "drivers/vz/helper_probe.h"
#include "drivers/vz/kernel_check.h"
#include "drivers/vz/vz_machine.h"

namespace mayfly::vz {
namespace {

class VzDriver final : public Driver {
 public:
  std::string_view Name() const override { return "vz"; }
  ProbeReport Probe() override;
  std::unique_ptr<Machine> Create(const MachineSpec& spec, Sandbox sandbox) override;
  std::string WhyNoCopies(const MachineSpec&) const override {
    return "two machines from one saved state cannot run at once on Virtualization.framework";
  }
};

HostCheck Check(std::string name, bool passed, std::string detail, std::string fix = {}) {
  return {std::move(name), passed ? HostCheck::Result::kPass : HostCheck::Result::kFail, std::move(detail),
          passed ? std::string() : std::move(fix)};
}

// The names are those of needs of the matrix: what is simulated has them as well.
std::vector<HostCheck> ChecksOf(const HelperProbe& helper) {
  std::vector<HostCheck> checks = {
      Check("macos", helper.supported,
            fmt::format("{}{}", helper.Text(), helper.supported ? "" : ": virtualisation is not available"),
            "use a Mac that is no virtual machine itself"),
      Check(
          "virtualization_entitlement", helper.entitled,
          fmt::format("{} {} com.apple.security.virtualization", helper.program.string(),
                      helper.entitled ? "has" : "lacks"),
          fmt::format("codesign --force --sign - --entitlements mayfly-vz.entitlements {}", helper.program.string()))};
  if (helper.simulated) {
    checks.push_back(Check("guests", !helper.guests_by.empty(),
                           helper.guests_by.empty() ? "no QEMU runs the guests" : "run by " + helper.guests_by,
                           "sudo apt-get install qemu-system-x86"));
  }
  return checks;
}

ProbeReport VzDriver::Probe() {
  ProbeReport report;
  HostCheck missing;
  try {
    const HelperProbe& helper = ProbeHelper();
    report.version = helper.simulated ? fmt::format("{} over {}", helper.Text(), helper.guests_by) : helper.Text();
    report.simulated = helper.simulated;
    report.checks = ChecksOf(helper);
    report.usable = true;
    for (const HostCheck& check : report.checks) {
      if (check.result == HostCheck::Result::kPass) continue;
      report.usable = false;
      missing = check;
    }
  } catch (const Error& error) {
    missing = {"mayfly-vz", HostCheck::Result::kFail, error.text().summary, error.text().next_step};
    report.checks.push_back(missing);
  }
  for (Capability capability : AllCapabilities()) {
    const internal::DriverCapability& row = RowOf(capability);
    bool wired = row.support == internal::Support::kYes;
    report.capabilities.push_back({.capability = capability,
                                   .available = wired && report.usable,
                                   .reason = wired && !report.usable ? missing.detail : std::string(row.reason),
                                   .fix = wired && !report.usable ? missing.fix : ""});
  }
  return report;
}

std::unique_ptr<Machine> VzDriver::Create(const MachineSpec& spec, Sandbox sandbox) {
  const HelperProbe& helper = ProbeHelper();
  RefuseWhatIsNotOffered(spec);
  if (spec.accelerator == Accelerator::kSoftware) {
    throw BadSpec({.summary = "spec: accelerator: \"software\": Virtualization.framework has the hardware's only"});
  }
  if (spec.machine == MachineKind::kMicro) {
    throw BadSpec({.summary = "spec: machine: \"micro\": Virtualization.framework has one kind of machine, with PCI"});
  }
  for (const HostCheck& check : ChecksOf(helper)) {
    if (check.result == HostCheck::Result::kFail) throw HostLacks({.summary = check.detail, .next_step = check.fix});
  }
  if (spec.boot.kernel.empty()) {
    throw BadSpec({.summary = "spec: boot.kernel: there is nothing to boot",
                   .next_step = "name an image, or give boot.kernel the path of a Linux kernel"});
  }
  RequireBootable(spec.boot.kernel, OwnHostKind(helper.simulated));
  return std::make_unique<VzMachine>(helper, spec, std::move(sandbox));
}

}  // namespace
}  // namespace mayfly::vz

namespace mayfly::internal {
std::unique_ptr<Driver> MakeDriver_vz();
std::unique_ptr<Driver> MakeDriver_vz() { return std::make_unique<vz::VzDriver>(); }
}  // namespace mayfly::internal
