// Round trips to the agent, and beside them what ssh takes for the same.
#include <benchmark/benchmark.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>

#include <chrono>
#include <string>

#include "bench/guest.h"
#include "bench/latency.h"
#include "bench/ssh_guest.h"

namespace mayfly::bench {
namespace {

void BM_ExecTrue(benchmark::State& state) {
  Vm& vm = Guest();
  vm.Exec({"true"}).OrThrow();
  Latency latency(state);
  for (auto _ : state) latency.Time([&] { vm.Exec({"true"}).OrThrow(); });
}
BENCHMARK(BM_ExecTrue)->Unit(benchmark::kMillisecond)->UseRealTime();

// The way to the guest and back without a process there.
void BM_Stat(benchmark::State& state) {
  Vm& vm = Guest();
  Latency latency(state);
  for (auto _ : state) latency.Time([&] { benchmark::DoNotOptimize(vm.Stat("/bin")); });
}
BENCHMARK(BM_Stat)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_ExecShell(benchmark::State& state) {
  Vm& vm = Guest();
  Latency latency(state);
  for (auto _ : state) latency.Time([&] { vm.Exec("true").OrThrow(); });
}
BENCHMARK(BM_ExecShell)->Unit(benchmark::kMillisecond)->UseRealTime();

// 16 MiB of output of one command.
void BM_ExecOutput(benchmark::State& state) {
  Vm& vm = Guest();
  constexpr int64_t kSize = 16 << 20;
  for (auto _ : state) {
    ExecResult result = vm.Exec("dd if=/dev/zero bs=64k count=256", {.max_output = Bytes(kSize)});
    benchmark::DoNotOptimize(result.OrThrow());
  }
  state.SetBytesProcessed(state.iterations() * kSize);
}
BENCHMARK(BM_ExecOutput)->Unit(benchmark::kMillisecond)->UseRealTime();

void Ssh(benchmark::State& state, bool shared) {
  std::string why;
  const SshServer* server = FindSshServer(&why);
  if (server == nullptr) return state.SkipWithError(why.c_str());
  std::vector<std::string> argv = server->Ssh({"true"}, shared);
  auto run = [&] {
    internal::CommandOutput output = internal::RunCommand(argv, Scaled(std::chrono::seconds(60)));
    if (!output.status.ok()) throw GuestFailed({.summary = "ssh failed", .notes = {output.out}});
  };
  run();
  Latency latency(state);
  for (auto _ : state) latency.Time(run);
}
void BM_SshTrue(benchmark::State& state) { Ssh(state, false); }
BENCHMARK(BM_SshTrue)->Unit(benchmark::kMillisecond)->UseRealTime();

// ssh over a connection that is open already (ControlMaster): no key exchange, no login.
void BM_SshTrueOpenConnection(benchmark::State& state) { Ssh(state, true); }
BENCHMARK(BM_SshTrueOpenConnection)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace mayfly::bench
