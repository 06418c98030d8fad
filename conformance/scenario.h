// A scenario: the claim of one capability, shown on a real machine.
//
//   SCENARIO_FOR(kCpuHotplug, "a hot-added vCPU runs guest threads") {
//     Vm& vm = Boot({.cpus = 1, .max_cpus = 2});
//     vm.machine().ResizeCpus(2);
//     vm.Exec("echo 1 > /sys/devices/system/cpu/cpu1/online").OrThrow();
//     EXPECT_THAT(vm.Exec("taskset -c 1 cat /proc/self/stat | cut -d' ' -f39"), Prints("1\n"));
//   }
//
// It is written once, against Vm and Machine, and never names a backend; for each backend that is linked in it becomes
// the test conformance.<driver>.<capability>.<claim>. What its outcome must be is said by the status in the matrix
// (cells.h). It proves the effect, in the guest or on the host, never the return of a call; and beside each claim of
// what works stands what must be refused, or must not happen without it:
//
//   REFUSAL_FOR(kCpuHotplug, "more than max_cpus is refused and changes nothing") {
//
// A refusal may hold where the backend has no such capability at all, so it says nothing of that; each row has a claim.
//
// Further arguments of the macros name needs (of matrix/capabilities.json) that this claim has besides its cell's.
//
// The scenario owns its VMs, so that after a refusal each can be asked whether it is unharmed; they go with it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/capability.h>
#include <mayfly/errors.h>
#include <mayfly/matchers.h>
#include <mayfly/sandbox.h>
#include <mayfly/vm.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::conformance {

// What the scenarios of all groups use.
using literals::operator""_MiB;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class Scenario {
 public:
  Scenario() = default;
  virtual ~Scenario();
  Scenario(const Scenario&) = delete;
  Scenario& operator=(const Scenario&) = delete;

  virtual void Run() = 0;

  // For the runner, before Run.
  void Use(std::string driver, Capability capability);
  // For the runner, after Run: what is wrong with the machines that still live; nothing when each guest that was ready
  // still answers.
  std::optional<std::string> Harm();
  // Whether a VM was ready. What the host lacks is told before that; later, HostLacks is a failure as any other.
  bool began() const { return began_; }
  // Of the first VM that was ready: "vmm", "machine", "accelerator", "image" with its hash.
  const std::map<std::string, std::string>& facts() const { return facts_; }

 protected:
  // A VM with the backend of this cell. Each lives until the scenario ends, or Destroy.
  Vm& Boot(MachineSpec spec = {});
  Vm& Create(MachineSpec spec = {});
  void Destroy(Vm& vm);

  // A directory of this scenario on the host, gone with it.
  const std::filesystem::path& Directory();

  // For what no call or spec can ask for yet: throws Unsupported, with the reason of the backend's probe, when that
  // does not offer it.
  void RequireOffered() const;

 private:
  std::string driver_{};
  Capability capability_{};
  bool began_ = false;
  std::map<std::string, std::string> facts_{};
  std::vector<std::unique_ptr<Vm>> vms_{};
  std::optional<Sandbox> directory_{};
};

// What a command of the guest printed; throws GuestFailed when it did not succeed.
inline std::string Out(Vm& vm, const Command& command) { return vm.Exec(command).OrThrow().out; }
// The same as a number.
inline int64_t Number(Vm& vm, const Command& command) { return std::stoll(Out(vm, command)); }

// Waits, for what a machine should do within seconds, until its state is this one.
MachineStatus AwaitState(Vm& vm, MachineState state);

constexpr Duration kSoon = 20s;

// --- Registration
// -----------------------------------------------------------------------------------------------------

enum class ScenarioKind { kClaim, kRefusal };

struct ScenarioEntry {
  ScenarioKind kind = ScenarioKind::kClaim;
  Capability capability{};
  std::string claim{};
  std::vector<std::string> needs{};
  const char* file = "";
  int line = 0;
  std::unique_ptr<Scenario> (*make)() = nullptr;

  // The claim as the last part of a test's name: letters, digits and '_' only.
  std::string Case() const;
};

// All that are linked in, by capability and then as they stand in their files.
const std::vector<ScenarioEntry>& AllScenarios();

bool AddScenario(ScenarioEntry entry);

template <class T>
std::unique_ptr<Scenario> MakeScenario() {
  return std::make_unique<T>();
}

}  // namespace mayfly::conformance

#define MAYFLY_SCENARIO_NAMED(name, kind, capability, claim, ...)                      \
  class name final : public ::mayfly::conformance::Scenario {                          \
   public:                                                                             \
    void Run() override;                                                               \
  };                                                                                   \
  [[maybe_unused]] const bool name##_is_there =                                        \
      ::mayfly::conformance::AddScenario({::mayfly::conformance::ScenarioKind::kind,   \
                                          ::mayfly::Capability::capability,            \
                                          claim,                                       \
                                          {__VA_ARGS__},                               \
                                          __FILE__,                                    \
                                          __LINE__,                                    \
                                          ::mayfly::conformance::MakeScenario<name>}); \
  void name::Run()
#define MAYFLY_SCENARIO_AT(line, ...) MAYFLY_SCENARIO_NAMED(Scenario##line, __VA_ARGS__)
#define MAYFLY_SCENARIO_LINE(line, ...) MAYFLY_SCENARIO_AT(line, __VA_ARGS__)
#define SCENARIO_FOR(...) MAYFLY_SCENARIO_LINE(__LINE__, kClaim, __VA_ARGS__)
#define REFUSAL_FOR(...) MAYFLY_SCENARIO_LINE(__LINE__, kRefusal, __VA_ARGS__)
