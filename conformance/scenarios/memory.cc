#include <fmt/format.h>

#include <fstream>
#include <regex>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

constexpr const char* kTotal = "awk '/^MemTotal/{print int($2/1024)}' /proc/meminfo";
constexpr const char* kFree = "awk '/^MemFree/{print int($2/1024)}' /proc/meminfo";

// The numbers of all lines "key: N kB" of the VMM's memory map, added up, in MiB.
int64_t VmmMemory(Vm& vm, const std::string& key) {
  std::ifstream maps(fmt::format("/proc/{}/smaps", vm.machine().Info().pid));
  int64_t sum = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with(key + ":")) sum += std::stoll(line.substr(key.size() + 1));
  }
  return sum / 1024;
}

// Where memory comes by virtio-mem, the guest has to have its driver.
constexpr const char* kVirtioMem = "modprobe virtio_mem; true";

// Memory that a process of the guest allocates and fills.
std::string Allocate(int mib) { return fmt::format("dd if=/dev/zero of=/dev/null bs={}M count=1 2>/dev/null", mib); }

SCENARIO_FOR(kMemorySize, "the guest has the memory asked for") {
  Vm& vm = Boot({.memory = 384_MiB});
  EXPECT_THAT(Number(vm, kTotal), AllOf(testing::Gt(384 * 8 / 10), testing::Le(384)));
  EXPECT_THAT(vm.Exec(Allocate(256)), Succeeds());
}

REFUSAL_FOR(kMemorySize, "more than the host has is refused") {
  EXPECT_THROW(Boot({.memory = Bytes(uint64_t{1} << 50)}), BadSpec);
}

SCENARIO_FOR(kMemoryBalloon, "what the balloon takes from the guest comes back to the host") {
  Vm& vm = Boot({.balloon = Balloon{}});
  Out(vm, "modprobe virtio_balloon");
  Out(vm, Allocate(160));
  int64_t guest = Number(vm, kFree);
  int64_t host = VmmMemory(vm, "Rss");
  vm.machine().SetBalloon(128_MiB);
  EXPECT_THAT([&] { return VmmMemory(vm, "Rss"); }, Eventually(testing::Lt(host - 80), Scaled(kSoon)));
  EXPECT_THAT([&] { return Number(vm, kFree); }, Eventually(testing::Lt(guest - 100), Scaled(kSoon)));
  vm.machine().SetBalloon(Bytes());
  EXPECT_THAT([&] { return Number(vm, kFree); }, Eventually(testing::Gt(guest - 16), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec(Allocate(160)), Succeeds());
}

REFUSAL_FOR(kMemoryBalloon, "a balloon as large as the guest is refused, and one that is not there") {
  Vm& vm = Boot({.balloon = Balloon{}});
  EXPECT_THROW(vm.machine().SetBalloon(vm.machine().spec().memory), BadSpec);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
  Vm& without = Boot();
  EXPECT_THROW(without.machine().SetBalloon(64_MiB), BadSpec);
}

SCENARIO_FOR(kMemoryHotplug, "the guest allocates what was added, and lets go of it") {
  Vm& vm = Boot({.memory = 256_MiB, .max_memory = 512_MiB});
  Out(vm, kVirtioMem);
  int64_t before = Number(vm, kTotal);
  EXPECT_THAT(vm.Exec(Allocate(300)), Not(Succeeds())) << "it has 256 MiB";
  vm.machine().ResizeMemory(512_MiB);
  EXPECT_THAT([&] { return Number(vm, kTotal); }, Eventually(testing::Ge(before + 250), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec(Allocate(300)), Succeeds());
  vm.machine().ResizeMemory(256_MiB);
  EXPECT_THAT([&] { return Number(vm, kTotal); },
              Eventually(AllOf(testing::Ge(before - 8), testing::Le(before + 8)), Scaled(kSoon)));
}

REFUSAL_FOR(kMemoryHotplug, "more than max_memory and less than memory are refused") {
  Vm& vm = Boot({.memory = 256_MiB, .max_memory = 512_MiB});
  int64_t before = Number(vm, kTotal);
  EXPECT_THROW(vm.machine().ResizeMemory(1024_MiB), BadSpec);
  EXPECT_THROW(vm.machine().ResizeMemory(128_MiB), BadSpec);
  EXPECT_EQ(Number(vm, kTotal), before);
}

SCENARIO_FOR(kMemoryHugepages, "the VMM's map shows the guest's memory in huge pages") {
  Vm& vm = Boot({.memory = 256_MiB, .hugepages = true});
  Out(vm, Allocate(128));
  EXPECT_GE(VmmMemory(vm, "Private_Hugetlb") + VmmMemory(vm, "Shared_Hugetlb"), 128);
}

REFUSAL_FOR(kMemoryHugepages, "more than are free is refused and kills nothing") {
  EXPECT_THROW(Boot({.memory = 8192_MiB, .hugepages = true}), Error);
}

SCENARIO_FOR(kMemoryZones, "the guest has NUMA nodes with their vCPUs and memory") {
  Vm& vm = Boot({.cpus = 2,
                 .memory = 512_MiB,
                 .zones = {{.id = "near", .size = 128_MiB, .cpus = {0}}, {.id = "far", .size = 384_MiB, .cpus = {1}}}});
  EXPECT_THAT(vm.Exec("cat /sys/devices/system/node/node*/cpulist"), Prints("0\n1\n"));
  auto node = [&](int n) {
    return Number(vm, fmt::format("awk '/MemTotal/{{print int($4/1024)}}' /sys/devices/system/node/node{}/meminfo", n));
  };
  EXPECT_THAT(node(0), AllOf(testing::Gt(64), testing::Le(128)));
  EXPECT_THAT(node(1), AllOf(testing::Gt(320), testing::Le(384)));
}

REFUSAL_FOR(kMemoryZones, "zones that are not as large as the memory are refused") {
  EXPECT_THROW(Boot({.memory = 512_MiB, .zones = {{.id = "near", .size = 128_MiB}, {.id = "far", .size = 128_MiB}}}),
               BadSpec);
}

MachineSpec WithAZoneThatGrows() {
  return {
      .cpus = 1,
      .memory = 256_MiB,
      .zones = {{.id = "fixed", .size = 128_MiB, .cpus = {0}}, {.id = "grows", .size = 128_MiB, .max_size = 384_MiB}}};
}

SCENARIO_FOR(kMemoryZoneResize, "one node of the guest grows by memory that it can use, and shrinks") {
  Vm& vm = Boot(WithAZoneThatGrows());
  Out(vm, kVirtioMem);
  auto node = [&](int n) {
    return Number(vm, fmt::format("awk '/MemTotal/{{print int($4/1024)}}' /sys/devices/system/node/node{}/meminfo", n));
  };
  int64_t fixed = node(0);
  int64_t grows = node(1);
  EXPECT_THAT(vm.Exec(Allocate(300)), Not(Succeeds())) << "it has 256 MiB";
  vm.machine().ResizeZone("grows", 384_MiB);
  EXPECT_THAT([&] { return node(1); }, Eventually(testing::Ge(grows + 250), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec(Allocate(300)), Succeeds());
  vm.machine().ResizeZone("grows", 128_MiB);
  EXPECT_THAT([&] { return node(1); }, Eventually(testing::Le(grows + 8), Scaled(kSoon)));
  EXPECT_EQ(node(0), fixed);
}

REFUSAL_FOR(kMemoryZoneResize, "more than max_size, less than size, a zone that cannot grow and none are refused") {
  Vm& vm = Boot(WithAZoneThatGrows());
  int64_t before = Number(vm, kTotal);
  EXPECT_THROW(vm.machine().ResizeZone("grows", 512_MiB), BadSpec);
  EXPECT_THROW(vm.machine().ResizeZone("grows", 64_MiB), BadSpec);
  EXPECT_THROW(vm.machine().ResizeZone("fixed", 256_MiB), BadSpec);
  EXPECT_THROW(vm.machine().ResizeZone("other", 256_MiB), BadSpec);
  EXPECT_EQ(Number(vm, kTotal), before);
}

}  // namespace
}  // namespace mayfly::conformance
