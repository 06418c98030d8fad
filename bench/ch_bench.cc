// Cloud Hypervisor: what the driver adds to a boot and to a call of its API, and what a fork takes beside a boot.
// Guests need KVM, which `mayfly host` gives; calls do not.
#include <benchmark/benchmark.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/sandbox.h>
#include <mayfly/vm.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/latency.h"
#include "drivers/ch/config.h"
#include "drivers/ch/program.h"
#include "drivers/ch/spec_config.h"
#include "drivers/ch/vmm_process.h"

namespace mayfly::bench {
namespace {

using literals::operator""_MiB;
using std::chrono::seconds;

MachineSpec Spec() { return {.memory = 192_MiB, .driver = "ch"}; }

// True, with the reason as the benchmark's error, where it cannot be measured.
bool Lacks(benchmark::State& state, bool kvm) {
  const char* accelerator = std::getenv("MAYFLY_ACCEL");  // NOLINT(concurrency-mt-unsafe): one thread
  std::string lacking;
  if (kvm && (accelerator == nullptr || std::string_view(accelerator) != "kvm")) {
    lacking = "not measured: guests of Cloud Hypervisor need KVM; run it by mayfly host";
  }
  try {
    ch::FindCloudHypervisor();
  } catch (const HostLacks& error) {
    lacking = "not measured: " + error.text().summary;
  }
  if (!lacking.empty()) state.SkipWithError(lacking.c_str());
  return !lacking.empty();
}

// A VMM without a machine.
struct Vmm {
  Sandbox sandbox = Sandbox::Create("ch-bench");
  ch::VmmProcess process{
      sandbox,
      {.program = ch::FindCloudHypervisor(), .log = sandbox.Path("vmm.log"), .console = sandbox.Path("console.log")}};
};

void BM_Ping(benchmark::State& state) {
  if (Lacks(state, /*kvm=*/false)) return;
  Vmm vmm;
  vmm.process.api().PingVmm(Deadline::After(seconds(20)));
  Latency latency(state);
  for (auto _ : state) {
    latency.Time([&] { vmm.process.api().PingVmm(Deadline::After(seconds(20))); });
  }
}
BENCHMARK(BM_Ping)->Unit(benchmark::kMillisecond)->Iterations(200);

void BM_PingByCurl(benchmark::State& state) {
  if (Lacks(state, /*kvm=*/false)) return;
  Vmm vmm;
  const std::vector<std::string> words = {"curl", "-s", "--unix-socket", vmm.sandbox.Path(ch::kApiSocket).string(),
                                          "http://localhost/api/v1/vmm.ping"};
  Latency latency(state);
  for (auto _ : state) {
    latency.Time([&] {
      internal::CommandOutput output = internal::RunCommand(words, seconds(20));
      if (output.out.find("build_version") == std::string::npos) state.SkipWithError("curl got no answer");
    });
  }
}
BENCHMARK(BM_PingByCurl)->Unit(benchmark::kMillisecond)->Iterations(50);

void UseNoPool() { setenv("MAYFLY_POOL", "off", 1); }  // NOLINT(concurrency-mt-unsafe): one thread

void BM_Boot(benchmark::State& state) {
  if (Lacks(state, /*kvm=*/true)) return;
  UseNoPool();
  Latency latency(state);
  for (auto _ : state) {
    std::optional<Vm> vm;
    latency.Time([&] { vm.emplace(Vm::Boot(Spec())); });
  }
}
BENCHMARK(BM_Boot)->Unit(benchmark::kMillisecond)->Iterations(1);

// The same machine, by what people type: without the agent's channel, up to the guest's ready line. It listens to what
// the VMM writes, so nothing is asked again and again but whether the API's socket is there.
constexpr const char* kByHand = R"sh(cd "$1" || exit 1
mkfifo console
"$2" --api-socket path=api.sock --event-monitor path=events --no-shutdown > console 2> log < /dev/null &
vmm=$!
until [ -S api.sock ]; do sleep 0.01; done
put() { curl -sf --unix-socket api.sock -X PUT "http://localhost/api/v1/$@"; }
(put vm.create -H 'Content-Type: application/json' -d @config.json && put vm.boot) &
grep -q -m 1 VMRS_READY < console
found=$?
kill -9 $vmm
exit $found
)sh";

void BM_BootByHand(benchmark::State& state) {
  if (Lacks(state, /*kvm=*/true)) return;
  UseNoPool();
  MachineSpec spec = Vm::Create(Spec()).machine().spec();  // with its image's files
  spec.agent = false;
  ch::Program program = ch::FindCloudHypervisor();
  Latency latency(state);
  for (auto _ : state) {
    Sandbox sandbox = Sandbox::Create("by-hand");
    internal::WriteWholeFile(sandbox.Path("config.json"),
                             ch::ToJson(ch::ConfigOf(spec, {}, sandbox.directory())).dump());
    latency.Time([&] {
      auto output = internal::RunCommand(
          {"sh", "-c", kByHand, "sh", sandbox.directory().string(), program.path.string()}, seconds(60));
      if (!output.status.ok()) state.SkipWithError(output.out.c_str());
    });
  }
}
BENCHMARK(BM_BootByHand)->Unit(benchmark::kMillisecond)->Iterations(1);

// To the first command answered.
void BM_BootToFirstExec(benchmark::State& state) {
  if (Lacks(state, /*kvm=*/true)) return;
  UseNoPool();
  Latency latency(state);
  for (auto _ : state) {
    std::optional<Vm> vm;
    latency.Time([&] {
      vm.emplace(Vm::Boot(Spec()));
      vm->Exec({"true"}).OrThrow();
    });
  }
}
BENCHMARK(BM_BootToFirstExec)->Unit(benchmark::kMillisecond)->Iterations(1);

void BM_ForkToFirstExec(benchmark::State& state) {
  if (Lacks(state, /*kvm=*/true)) return;
  UseNoPool();
  {
    Vm first = Vm::Fork(Spec());  // the template is there then
  }
  Latency latency(state);
  for (auto _ : state) {
    std::optional<Vm> vm;
    latency.Time([&] {
      vm.emplace(Vm::Fork(Spec()));
      vm->Exec({"true"}).OrThrow();
    });
  }
}
BENCHMARK(BM_ForkToFirstExec)->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace
}  // namespace mayfly::bench
