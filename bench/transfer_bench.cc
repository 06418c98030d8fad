// Files into the guest and out of it, and beside them what scp takes for the same. The argument is MiB. The guest's
// file lies in /tmp, which is memory: what is measured is the way there.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/sandbox.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "bench/guest.h"
#include "bench/latency.h"
#include "bench/ssh_guest.h"

namespace mayfly::bench {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInGuest = "/tmp/bench.bin";

// A file that does not compress, and a place for what comes back.
class HostFiles {
 public:
  explicit HostFiles(int64_t mebibytes) : sandbox_(Sandbox::Create("transfer")) {
    uint64_t word = 0x9e3779b97f4a7c15;
    std::string block(1 << 20, '\0');
    std::ofstream file(source(), std::ios::binary);
    for (int64_t i = 0; i < mebibytes; ++i) {
      for (size_t at = 0; at < block.size(); at += sizeof word) {
        word ^= word << 13, word ^= word >> 7, word ^= word << 17;
        block.replace(at, sizeof word, reinterpret_cast<const char*>(&word), sizeof word);
      }
      file << block;
    }
  }
  fs::path source() const { return sandbox_.Path("source"); }
  fs::path result() const { return sandbox_.Path("result"); }

  void RequireEqual() const {
    if (fs::file_size(source()) != fs::file_size(result())) {
      throw GuestFailed({.summary = fmt::format("{} came back with another size", source().string())});
    }
  }

 private:
  const Sandbox sandbox_;
};

void SetUp(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(64)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);
}

template <typename Up, typename Down>
void Transfer(benchmark::State& state, Up up, Down down) {
  HostFiles files(state.range(0));
  double up_ms = 0, down_ms = 0;
  auto timed = [](double& sum, auto function) {
    auto begin = std::chrono::steady_clock::now();
    function();
    sum += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  };
  Latency latency(state);
  for (auto _ : state) {
    latency.Time([&] {
      timed(up_ms, [&] { up(files.source()); });
      timed(down_ms, [&] { down(files.result()); });
    });
  }
  files.RequireEqual();
  Guest().Exec({"rm", kInGuest}).OrThrow();
  state.counters["up_ms"] = benchmark::Counter(up_ms, benchmark::Counter::kAvgIterations);
  state.counters["down_ms"] = benchmark::Counter(down_ms, benchmark::Counter::kAvgIterations);
  state.SetBytesProcessed(state.iterations() * 2 * state.range(0) << 20);
}

void BM_UploadDownload(benchmark::State& state) {
  Vm& vm = Guest();
  Transfer(
      state, [&](const fs::path& from) { vm.Upload(from, kInGuest); },
      [&](const fs::path& to) { vm.Download(kInGuest, to); });
}
BENCHMARK(BM_UploadDownload)->Apply(SetUp);

void BM_Scp(benchmark::State& state) {
  std::string why;
  const SshServer* server = FindSshServer(&why);
  if (server == nullptr) return state.SkipWithError(why.c_str());
  auto scp = [&](const std::string& from, const std::string& to) {
    internal::CommandOutput output = internal::RunCommand(server->Scp(from, to), Scaled(std::chrono::minutes(5)));
    if (!output.status.ok()) throw GuestFailed({.summary = "scp failed", .notes = {output.out}});
  };
  std::string in_guest = std::string(":") + kInGuest;
  Transfer(
      state, [&](const fs::path& from) { scp(from.string(), in_guest); },
      [&](const fs::path& to) { scp(in_guest, to.string()); });
}
BENCHMARK(BM_Scp)->Apply(SetUp);

}  // namespace
}  // namespace mayfly::bench
