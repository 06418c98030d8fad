#include "drivers/ch/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/error_of_fixture.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "drivers/ch/api_error.h"

namespace mayfly::ch {
namespace {

using internal::ErrorOf;
using ::testing::HasSubstr;

TEST(Config, OnlyWhatIsSetIsWritten) {
  EXPECT_EQ(ToJson(VmConfig{}).dump(), "{}");
  EXPECT_EQ(ToJson(Resize{}).dump(), "{}");
  EXPECT_EQ(ToJson(DiskConfig{.readonly = false}).dump(), R"({"readonly":false})");
}

TEST(Config, WhatCloudHypervisorRequiresIsAlwaysWritten) {
  EXPECT_EQ(ToJson(VmConfig{.cpus = CpusConfig{}}).dump(), R"({"cpus":{"boot_vcpus":1,"max_vcpus":1}})");
  EXPECT_EQ(ToJson(VmConfig{.memory = MemoryConfig{}}).dump(), R"({"memory":{"size":0}})");
  EXPECT_EQ(ToJson(VmConfig{.serial = SerialConfig{}}).dump(), R"({"serial":{"mode":"Null"}})");
}

TEST(Config, TheFieldsOfAPlaceStandBesideTheOthers) {
  DiskConfig disk{.pci = {.id = "d", .iommu = true, .pci_segment = 1, .pci_device_id = 5}, .path = "/d"};
  EXPECT_EQ(ToJson(disk).dump(), R"({"id":"d","iommu":true,"path":"/d","pci_device_id":5,"pci_segment":1})");
}

// A VM with something in each kind of field.
VmConfig Rich() {
  return {.cpus = CpusConfig{.boot_vcpus = 2,
                             .max_vcpus = 4,
                             .topology = CpuTopology{2, 1, 1, 2},
                             .affinity = {{1, {0, 3}}},
                             .core_scheduling = CoreScheduling::kOff},
          .memory = MemoryConfig{.hotplug_method = HotplugMethod::kVirtioMem,
                                 .zones = {{.id = "m0", .size = 1 << 28, .file = "/ram", .shared = false}}},
          .payload = PayloadConfig{.kernel = "/k", .cmdline = "console=ttyS0 \"ü\""},
          .rate_limit_groups = {{"g", {.ops = TokenBucketConfig{20, {}, 1000}}}},
          .disks = {{.pci = {.id = "d"}, .path = "/d", .rate_limit_group = "g", .image_type = ImageType::kFixedVhd}},
          .net = {{.mac = "02:00:00:00:00:01", .vhost_mode = VhostMode::kServer}},
          .console = ConsoleConfig{},
          .numa = {{.guest_numa_id = 0, .cpus = {0, 1}, .distances = {{1, 20}}, .memory_zones = {"m0"}}},
          .watchdog = true,
          .platform = PlatformConfig{.oem_strings = {"a", "b"}},
          .landlock_rules = {{"/tmp", "rw"}}};
}

TEST(Config, ComesBackFromItsJson) { EXPECT_EQ(VmConfigFromJson(ToJson(Rich()).dump()), Rich()); }

TEST(Config, UnknownKeysAndNullsAreOtherVersions) {
  VmConfig config =
      VmConfigFromJson(R"({"cpus":{"boot_vcpus":3,"max_vcpus":3,"topology":null,"profile":"Host"},"x":1})");
  EXPECT_EQ(config, (VmConfig{.cpus = CpusConfig{.boot_vcpus = 3, .max_vcpus = 3}}));
}

struct RefusalRow {
  const char* json;
  const char* told;
};

TEST(Config, AWrongTypeIsNamed) {
  for (const RefusalRow& row :
       {RefusalRow{R"({"cpus":[]})", "cpus: [] is no object"}, RefusalRow{R"({"disks":{}})", "disks: {} is no list"},
        RefusalRow{R"({"disks":[{},{"path":7}]})", "disks[1].path: 7 is no string"},
        RefusalRow{R"({"vsock":{"cid":-1}})", "vsock.cid: -1 is no whole number from 0 to"},
        RefusalRow{R"({"net":[{"mtu":70000}]})", "net[0].mtu: 70000 is no whole number"},
        RefusalRow{R"({"watchdog":"on"})", "watchdog: \"on\" is no true or false"},
        RefusalRow{R"({"serial":{"mode":"Loud"}})", "serial.mode: \"Loud\" is no \"Off\", "},
        RefusalRow{R"([])", "[] is no object"}}) {
    EXPECT_THAT(ErrorOf<BadAnswer>([&] { VmConfigFromJson(row.json); }), HasSubstr(row.told));
  }
}

TEST(Counters, WhatWasNeverMeasuredIsLeftOut) {
  auto counters = CountersFromJson(R"({"d": {"read_ops": 18446744073709551615, "read_latency_min": 18446744073709551615,
                                     "write_latency_avg": 1844674407370955, "write_latency_max": 17}})");
  EXPECT_EQ(counters,
            (Counters{{"d", {{"read_ops", std::numeric_limits<uint64_t>::max()}, {"write_latency_max", 17}}}}));
}

}  // namespace
}  // namespace mayfly::ch
