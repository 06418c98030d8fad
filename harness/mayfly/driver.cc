#include <mayfly/driver.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>

#include <cstdlib>
#include <memory>
#include <vector>

namespace mayfly {
namespace internal {
std::vector<std::unique_ptr<Driver>> MakeLinkedDrivers();
}

const std::vector<Driver*>& AllDrivers() {
  static const auto* all = [] {
    auto* drivers = new std::vector<Driver*>;  // live as long as the process
    for (std::unique_ptr<Driver>& driver : internal::MakeLinkedDrivers()) drivers->push_back(driver.release());
    return drivers;
  }();
  return *all;
}

std::unique_ptr<Machine> Driver::Adopt(ReleasedMachine, internal::UniqueFd) {
  throw Unsupported(Capability::kStateSnapshot, std::string(Name()), "this backend cannot hand machines over");
}

std::string Driver::CopyIdentity(const MachineSpec&) const { return {}; }

std::string Driver::WhyNoCopies(const MachineSpec&) const { return "this backend cannot save machines"; }

Driver& FindDriver(std::string_view name) {
  std::string origin = "driver";
  if (name.empty()) {
    const char* variable = std::getenv("MAYFLY_DRIVER");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
    if (variable != nullptr) name = variable;
    origin = "MAYFLY_DRIVER";
  }
  ErrorText none{.summary = "no backend works on this host",
                 .next_step = "`mayfly doctor` tells what is missing and how to get it"};
  std::vector<std::string> known;
  for (Driver* driver : AllDrivers()) {
    if (driver->Name() == name) return *driver;
    known.emplace_back(driver->Name());
    if (!name.empty()) continue;
    ProbeReport report = driver->Probe();
    if (report.usable && !report.simulated) return *driver;
    for (const HostCheck& check : report.checks) {
      if (check.result != HostCheck::Result::kFail) continue;
      none.notes.push_back(fmt::format("{}: {}: {}", driver->Name(), check.name, check.detail));
      if (!check.fix.empty()) none.notes.push_back(check.fix);
    }
  }
  if (!name.empty()) {
    throw BadSpec({.summary = fmt::format("{}: \"{}\" is no backend of this build; allowed: {}", origin, name,
                                          fmt::join(known, ", "))});
  }
  throw HostLacks(std::move(none));
}

}  // namespace mayfly
