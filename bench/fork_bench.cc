// Forks: the lease of one that the pool has ready, and one that is restored when it is asked for, up to the first
// command answered; and the clone of a disk.
#include <benchmark/benchmark.h>
#include <mayfly/agent.h>
#include <mayfly/driver.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/guest_identity.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/pool_connection.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/sandbox.h>
#include <mayfly/snapshot.h>
#include <mayfly/vm.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/latency.h"

namespace mayfly::bench {
namespace {

using literals::operator""_MiB;
using literals::operator""_GiB;

void UsePool(const char* mode) {
  setenv("MAYFLY_POOL", mode, 1);  // NOLINT(concurrency-mt-unsafe): one thread
}

// The template of the fork that was leased last; returns when the pool has one ready again.
std::filesystem::path AwaitWarm() {
  std::unique_ptr<internal::PoolConnection> pool = internal::PoolConnection::Open();
  nlohmann::json status = pool->Call({{"op", "status"}}).body;
  while (true) {
    const nlohmann::json& newest = status.at("forks").at("templates").at(0);
    bool full = newest.at("warm").get<int>() >= 2 && newest.at("started").get<int>() >= 2;
    if (full) return newest.at("directory").get<std::string>();
    status = pool->Call({{"op", "watch"}, {"seen", status.at("change")}}).body;
  }
}

MachineSpec Spec(MachineKind machine, Bytes memory) { return {.memory = memory, .machine = machine}; }

void BM_WarmLease(benchmark::State& state) {
  UsePool("on");
  {
    Vm first = Vm::Fork(Spec(MachineKind::kMicro, 128_MiB));
  }
  Latency latency(state);
  for (auto _ : state) {
    std::filesystem::path from = AwaitWarm();
    std::optional<internal::Lease::Fork> fork;
    latency.Time([&] { fork = internal::Lease::OpenFork(from); });
  }
}
BENCHMARK(BM_WarmLease)->Unit(benchmark::kMillisecond)->Iterations(60);

void BM_WarmForkToFirstExec(benchmark::State& state) {
  UsePool("on");
  MachineSpec spec = Spec(MachineKind::kMicro, 128_MiB);
  {
    Vm first = Vm::Fork(spec);
  }
  Latency latency(state);
  for (auto _ : state) {
    AwaitWarm();
    std::optional<Vm> vm;
    latency.Time([&] {
      vm.emplace(Vm::Fork(spec));
      vm->Exec({"true"}).OrThrow();
    });
  }
}
BENCHMARK(BM_WarmForkToFirstExec)->Unit(benchmark::kMillisecond)->Iterations(40);

// As the pool does it: the VMM was started ahead, and the guest has a clock, random numbers and names of its own when
// it answers.
void BM_ForkIntoStarted(benchmark::State& state) {
  UsePool("on");
  {
    Vm first = Vm::Fork(Spec(MachineKind::kMicro, 128_MiB));
  }
  SnapshotInfo info = ReadSnapshot(AwaitWarm());
  Latency latency(state);
  for (auto _ : state) {
    std::string name = "bench-" + internal::RandomDigits(4);
    std::unique_ptr<Machine> machine = FindDriver(info.driver).Create(SpecOfCopy(info, name), Sandbox::Create(name));
    machine->PrepareRestore(info.directory);
    std::unique_ptr<Agent> agent;
    latency.Time([&] {
      machine->Restore(info.directory);
      agent = std::make_unique<Agent>(
          machine->ConnectAgent(), machine->timeline(),
          AgentOptions{.name = name, .transcript = {}, .copy = internal::IdentityOfCopy(info, machine->spec())});
      agent->WaitForHello(Deadline::After(std::chrono::seconds(10)));
    });
  }
}
BENCHMARK(BM_ForkIntoStarted)->Unit(benchmark::kMillisecond)->Iterations(20);

// To the first answer: the guest's agent has been told its clock, random numbers and names.
void BM_ColdFork(benchmark::State& state, MachineKind machine, Bytes memory) {
  UsePool("off");
  MachineSpec spec = Spec(machine, memory);
  {
    Vm first = Vm::Fork(spec);
  }
  Latency latency(state);
  for (auto _ : state) {
    std::optional<Vm> vm;
    latency.Time([&] { vm.emplace(Vm::Fork(spec)); });
  }
}
BENCHMARK_CAPTURE(BM_ColdFork, micro, MachineKind::kMicro, 128_MiB)
    ->Name("BM_ColdForkMicro")
    ->Unit(benchmark::kMillisecond)
    ->Iterations(20);
BENCHMARK_CAPTURE(BM_ColdFork, micro_4g, MachineKind::kMicro, 4_GiB)
    ->Name("BM_ColdForkMicro4GiB")
    ->Unit(benchmark::kMillisecond)
    ->Iterations(20);
BENCHMARK_CAPTURE(BM_ColdFork, pc, MachineKind::kPc, 128_MiB)
    ->Name("BM_ColdForkPc")
    ->Unit(benchmark::kMillisecond)
    ->Iterations(20);

void BM_BootMicro(benchmark::State& state) {
  Latency latency(state);
  for (auto _ : state) {
    std::optional<Vm> vm;
    latency.Time([&] { vm.emplace(Vm::Boot(Spec(MachineKind::kMicro, 128_MiB))); });
  }
}
BENCHMARK(BM_BootMicro)->Unit(benchmark::kMillisecond)->Iterations(3);

void BM_CloneDisk(benchmark::State& state, Bytes size) {
  internal::TestDirectory directory;
  std::filesystem::path image = directory / "image.raw";
  std::ofstream(image) << "image";
  std::filesystem::resize_file(image, size.count());
  Disk disk{.id = "data", .path = image.string()};
  Latency latency(state);
  int number = 0;
  for (auto _ : state) {
    std::filesystem::path place = directory / std::to_string(number++);
    std::filesystem::create_directory(place);
    latency.Time([&] { benchmark::DoNotOptimize(internal::PrepareDisk(disk, place)); });
  }
}
BENCHMARK_CAPTURE(BM_CloneDisk, small, 1_GiB)->Name("BM_Clone1GiB")->Unit(benchmark::kMillisecond)->Iterations(100);
BENCHMARK_CAPTURE(BM_CloneDisk, large, 10_GiB)->Name("BM_Clone10GiB")->Unit(benchmark::kMillisecond)->Iterations(100);

}  // namespace
}  // namespace mayfly::bench
