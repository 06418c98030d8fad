#include "conformance/scenario.h"

#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/image.h>
#include <mayfly/internal/running_test.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

namespace mayfly::conformance {
namespace {

std::vector<ScenarioEntry>& Entries() {
  static auto& entries = *new std::vector<ScenarioEntry>;
  return entries;
}

}  // namespace

Scenario::~Scenario() { vms_.clear(); }  // before the directory that their files may be in

void Scenario::Use(std::string driver, Capability capability) {
  driver_ = std::move(driver);
  capability_ = capability;
}

Vm& Scenario::Create(MachineSpec spec) {
  internal::RunningTest::Get().Enter("create");
  spec.driver = driver_;
  vms_.push_back(std::make_unique<Vm>(Vm::Create(std::move(spec))));
  internal::RunningTest::Get().Enter("test");
  return *vms_.back();
}

Vm& Scenario::Boot(MachineSpec spec) {
  Vm& vm = Create(std::move(spec));
  internal::RunningTest::Get().Enter("boot");
  vm.Boot();
  if (!began_) {
    MachineInfo info = vm.machine().Info();
    facts_ = {{"vmm", info.vmm}, {"machine", info.machine}, {"accelerator", info.accelerator}};
    if (const std::string& image = vm.machine().spec().image; !image.empty()) {
      facts_["image"] = fmt::format("{} {}", image, ImageStore().Find(image).hash);
    }
  }
  began_ = true;
  internal::RunningTest::Get().Enter("test");
  return vm;
}

void Scenario::Destroy(Vm& vm) {
  std::erase_if(vms_, [&](const auto& owned) { return owned.get() == &vm; });
}

std::optional<std::string> Scenario::Harm() {
  for (const auto& vm : vms_) {
    MachineStatus status = vm->status();
    if (status.state == MachineState::kFailed) return fmt::format("'{}' failed: {}", vm->name(), status.reason);
    if (status.state != MachineState::kReady || status.paused) continue;
    try {
      vm->Exec("true").OrThrow();
    } catch (const Error& error) {
      return fmt::format("'{}' does not answer any more: {}", vm->name(), error.what());
    }
  }
  return std::nullopt;
}

const std::filesystem::path& Scenario::Directory() {
  if (!directory_) directory_ = Sandbox::Create("scenario");
  return directory_->directory();
}

void Scenario::RequireOffered() const {
  for (const CapabilityReport& report : FindDriver(driver_).Probe().capabilities) {
    if (report.capability == capability_ && !report.available) throw Unsupported(capability_, driver_, report.reason);
  }
}

MachineStatus AwaitState(Vm& vm, MachineState state) {
  return vm.machine().WaitForStatus([&](const MachineStatus& status) { return status.state == state; }, ToString(state),
                                    Deadline::After(Scaled(kSoon)));
}

std::string ScenarioEntry::Case() const {
  std::string name;
  for (char c : claim) {
    bool keep = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (keep) name += c;
    if (!keep && !name.empty() && name.back() != '_') name += '_';
  }
  while (name.ends_with('_')) name.pop_back();
  return name;
}

const std::vector<ScenarioEntry>& AllScenarios() { return Entries(); }

bool AddScenario(ScenarioEntry entry) {
  std::vector<ScenarioEntry>& entries = Entries();
  auto after = std::upper_bound(entries.begin(), entries.end(), entry,
                                [](const auto& a, const auto& b) { return a.capability < b.capability; });
  entries.insert(after, std::move(entry));
  return true;
}

}  // namespace mayfly::conformance
