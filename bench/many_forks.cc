// Many forks alive at once: many_forks COUNT STARTERS SECONDS
//
// Starts COUNT forks from so many threads, lets all of them run a command, and leaves them alone for so many seconds.
// Prints one object of JSON: how long the start took, how many answered, and of each fork its private memory, before
// and after the command, and the share of a CPU that it took while it was idle.
#include <mayfly/vm.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace mayfly::bench {
namespace {

using literals::operator""_MiB;
using SteadyClock = std::chrono::steady_clock;

double Since(SteadyClock::time_point began) {
  return std::chrono::duration<double>(SteadyClock::now() - began).count();
}

Vm Fork() { return Vm::Fork({.memory = 128_MiB}); }

std::vector<Vm> StartAll(size_t count, size_t starters) {
  std::vector<Vm> vms;
  std::mutex mutex;
  std::atomic<size_t> started = 0;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < starters; ++i) {
    threads.emplace_back([&] {
      while (started++ < count) {
        Vm vm = Fork();
        std::lock_guard lock(mutex);
        vms.push_back(std::move(vm));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return vms;
}

std::string ProcFile(const Vm& vm, const char* name) {
  std::ifstream file("/proc/" + std::to_string(vm.machine().Info().pid) + "/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Of its own, whether it was written to or only read by nobody else.
double PrivateMiB(const Vm& vm) {
  std::istringstream lines(ProcFile(vm, "smaps_rollup"));
  double kib = 0;
  for (std::string word; lines >> word;) {
    double value = 0;
    if (word.starts_with("Private_") && lines >> value) kib += value;
  }
  return kib / 1024;
}

std::vector<double> MemoryOf(const std::vector<Vm>& vms) {
  std::vector<double> memory;
  for (const Vm& vm : vms) memory.push_back(PrivateMiB(vm));
  return memory;
}

double CpuSeconds(const Vm& vm) {
  constexpr int kUserTime = 11;  // fields behind the name in parentheses
  std::string stat = ProcFile(vm, "stat");
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < kUserTime; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

nlohmann::json Measure(size_t count, size_t starters, int idle_seconds) {
  {
    Vm first = Fork();  // the template is there then
  }
  auto began = SteadyClock::now();
  std::vector<Vm> vms = StartAll(count, starters);
  double took = Since(began);
  std::vector<double> ready = MemoryOf(vms);
  size_t answered = 0;
  for (Vm& vm : vms) answered += vm.Exec({"true"}).ok() ? 1 : 0;
  std::vector<double> used = MemoryOf(vms), cpu_before, cpu;
  for (const Vm& vm : vms) cpu_before.push_back(CpuSeconds(vm));
  began = SteadyClock::now();
  std::this_thread::sleep_for(std::chrono::seconds(idle_seconds));
  double idle = Since(began);
  for (size_t i = 0; i < vms.size(); ++i) cpu.push_back(100 * (CpuSeconds(vms[i]) - cpu_before[i]) / idle);
  return {{"seconds", took}, {"answered", answered}, {"ready_mib", ready}, {"used_mib", used}, {"cpu_percent", cpu}};
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: many_forks COUNT STARTERS SECONDS\n", stderr);
    return 2;
  }
  auto result = mayfly::bench::Measure(std::strtoul(argv[1], nullptr, 10), std::strtoul(argv[2], nullptr, 10),
                                       std::atoi(argv[3]));
  std::puts(result.dump().c_str());
  return 0;
}
