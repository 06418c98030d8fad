#include <fmt/format.h>

#include <fstream>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kCpuCount, "the guest has the vCPUs asked for and runs on each") {
  Vm& vm = Boot({.cpus = 2});
  EXPECT_THAT(vm.Exec("nproc"), Prints("2\n"));
  for (int cpu : {0, 1}) {
    EXPECT_THAT(vm.Exec(fmt::format("taskset -c {} cat /proc/self/stat | cut -d' ' -f39", cpu)),
                Prints(fmt::format("{}\n", cpu)));
  }
}

REFUSAL_FOR(kCpuCount, "no vCPU at all is refused") { EXPECT_THROW(Boot({.cpus = 0}), BadSpec); }

SCENARIO_FOR(kCpuHotplug, "a hot-added vCPU runs guest threads") {
  Vm& vm = Boot({.cpus = 1, .max_cpus = 2});
  vm.machine().ResizeCpus(2);
  vm.WaitForFile("/sys/devices/system/cpu/cpu1/online", Scaled(kSoon));
  Out(vm, "echo 1 > /sys/devices/system/cpu/cpu1/online");
  EXPECT_THAT(vm.Exec("taskset -c 1 cat /proc/self/stat | cut -d' ' -f39"), Prints("1\n"));
}

SCENARIO_FOR(kCpuHotplug, "a vCPU that is taken away is gone from the guest", "kvm") {
  Vm& vm = Boot({.cpus = 1, .max_cpus = 2});
  vm.machine().ResizeCpus(2);
  vm.WaitForFile("/sys/devices/system/cpu/cpu1/online", Scaled(kSoon));
  vm.machine().ResizeCpus(1);
  EXPECT_THAT(vm.Exec("nproc"), Prints("1\n"));
}

REFUSAL_FOR(kCpuHotplug, "more than max_cpus is refused and changes nothing") {
  Vm& vm = Boot({.cpus = 1, .max_cpus = 2});
  EXPECT_THROW(vm.machine().ResizeCpus(3), BadSpec);
  EXPECT_THROW(vm.machine().ResizeCpus(0), BadSpec);
  EXPECT_THAT(vm.Exec("nproc"), Prints("1\n"));
}

REFUSAL_FOR(kCpuHotplug, "a machine that is stopped is not resized") {
  Vm& vm = Boot({.cpus = 1, .max_cpus = 2});
  vm.Kill();
  EXPECT_THROW(vm.machine().ResizeCpus(2), BadSpec);
}

SCENARIO_FOR(kCpuTopology, "the guest sees sockets, cores and threads as asked for") {
  Vm& vm = Boot({.cpus = 4, .topology = {.sockets = 2, .dies = 1, .cores = 1, .threads = 2}});
  EXPECT_THAT(vm.Exec("cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list"), Prints("0-1\n"));
  EXPECT_THAT(
      vm.Exec("cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | sort | uniq -c | awk '{print $1}'"),
      Prints("2\n2\n"));
}

REFUSAL_FOR(kCpuTopology, "a topology that is not as large as the vCPUs is refused") {
  EXPECT_THROW(Boot({.cpus = 4, .topology = {.sockets = 3, .dies = 1, .cores = 1, .threads = 1}}), BadSpec);
}

SCENARIO_FOR(kCpuAffinity, "a vCPU's thread may run on its host CPU only") {
  for (uint32_t cpu : {0U, 1U}) {
    Vm& vm = Boot({.affinity = {{.vcpu = 0, .host_cpus = {cpu}}}});
    size_t bound = 0;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", vm.machine().Info().pid))) {
      std::ifstream status(task.path() / "status");
      std::string text{std::istreambuf_iterator<char>(status), {}};
      bound += text.find(fmt::format("Cpus_allowed_list:\t{}\n", cpu)) != std::string::npos ? 1 : 0;
    }
    EXPECT_EQ(bound, 1U) << "threads that are bound to CPU " << cpu;
    Destroy(vm);
  }
}

REFUSAL_FOR(kCpuAffinity, "a host CPU that is not there is refused") {
  EXPECT_THROW(Boot({.affinity = {{.vcpu = 0, .host_cpus = {4000}}}}), BadSpec);
}

}  // namespace
}  // namespace mayfly::conformance
