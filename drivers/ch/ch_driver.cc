// The Cloud Hypervisor backend: probes the host and makes machines.
#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/unique_fd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "drivers/ch/capabilities.h"
#include "drivers/ch/ch_machine.h"
#include "drivers/ch/program.h"

namespace mayfly::ch {
namespace {

// A device that opens proves nothing. Who knows that guests boot with it says so by MAYFLY_ACCEL=kvm (`mayfly host`
// does); otherwise a driver that has a canary for that finds out.
HostCheck KvmCheck() {
  const char* told = std::getenv("MAYFLY_ACCEL");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  bool known = told != nullptr && std::string_view(told) == "kvm";
  internal::UniqueFd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (kvm) return {known ? "kvm" : "/dev/kvm", HostCheck::Result::kPass, known ? "MAYFLY_ACCEL=kvm" : "opens", ""};
  return {"/dev/kvm", HostCheck::Result::kFail, "/dev/kvm: " + std::generic_category().message(errno),
          "mayfly host -- CMD runs CMD where KVM works"};
}

HostCheck GuestDebugCheck(const Program& program) {
  if (program.guest_debug) return {"ch_guest_debug", HostCheck::Result::kPass, "built with guest_debug", ""};
  return {"ch_guest_debug", HostCheck::Result::kWarn, "this Cloud Hypervisor was built without guest_debug", ""};
}

class ChDriver final : public Driver {
 public:
  std::string_view Name() const override { return "ch"; }
  ProbeReport Probe() override;
  std::unique_ptr<Machine> Create(const MachineSpec& spec, Sandbox sandbox) override;
  std::unique_ptr<Machine> Adopt(ReleasedMachine machine, internal::UniqueFd agent) override {
    return std::make_unique<ChMachine>(std::move(machine), std::move(agent));
  }
  std::string WhyNoCopies(const MachineSpec& spec) const override { return WhyCannotSave(spec); }
  std::string CopyIdentity(const MachineSpec& spec) const override;
};

ProbeReport ChDriver::Probe() {
  ProbeReport report;
  HostCheck missing;
  try {
    Program program = FindCloudHypervisor();
    report.version = fmt::format("{} ({})", program.Text(), program.path.string());
    missing = KvmCheck();
    report.checks = {
        {"cloud_hypervisor", HostCheck::Result::kPass, report.version, ""}, missing, GuestDebugCheck(program)};
  } catch (const Error& error) {
    missing = {"cloud_hypervisor", HostCheck::Result::kFail, error.text().summary, error.text().next_step};
    report.checks.push_back(missing);
  }
  report.usable = missing.result == HostCheck::Result::kPass;
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

// A guest goes on only where the host's processor is the one that it saw when it was saved.
std::string ChDriver::CopyIdentity(const MachineSpec& /*spec*/) const {
  std::ifstream cpus("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpus, line) && !line.starts_with("model name")) {
  }
  return fmt::format("{}\n{}", FindCloudHypervisor().Text(), line);
}

std::unique_ptr<Machine> ChDriver::Create(const MachineSpec& spec, Sandbox sandbox) {
  Program program = FindCloudHypervisor();
  RefuseWhatIsNotOffered(spec);
  if (HostCheck kvm = KvmCheck(); kvm.result == HostCheck::Result::kFail) {
    throw HostLacks({.summary = "Cloud Hypervisor needs KVM: " + kvm.detail, .next_step = kvm.fix});
  }
  if (spec.boot.kernel.empty()) {
    throw BadSpec({.summary = "spec: boot.kernel: there is nothing to boot",
                   .next_step = "name an image, or give boot.kernel the path of a Linux kernel"});
  }
  return std::make_unique<ChMachine>(std::move(program), spec, std::move(sandbox));
}

}  // namespace
}  // namespace mayfly::ch

namespace mayfly::internal {
std::unique_ptr<Driver> MakeDriver_ch();
std::unique_ptr<Driver> MakeDriver_ch() { return std::make_unique<ch::ChDriver>(); }
}  // namespace mayfly::internal
