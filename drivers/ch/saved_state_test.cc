#include "drivers/ch/saved_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace mayfly::ch {
namespace {

using nlohmann::json;

struct Mapping {
  uint64_t gpa;
  uint64_t size;
  bool virtio_mem = false;
};

// As v53.0 writes it: the state of each part is a text in the text.
std::string State(const std::vector<Mapping>& mappings, const std::vector<Mapping>& ranges) {
  json memory = {{"memory_ranges", {{"data", json::array()}}},
                 {"guest_ram_mappings", json::array()},
                 {"boot_ram", uint64_t{1} << 63}};
  for (const Mapping& range : ranges) {
    memory["memory_ranges"]["data"].push_back({{"gpa", range.gpa}, {"length", range.size}});
  }
  for (const Mapping& mapping : mappings) {
    memory["guest_ram_mappings"].push_back({{"gpa", mapping.gpa},
                                            {"size", mapping.size},
                                            {"slot", 0},
                                            {"zone_id", "mem0"},
                                            {"virtio_mem", mapping.virtio_mem},
                                            {"file_offset", 0}});
  }
  return json{{"snapshots",
               {{"memory-manager", {{"snapshots", json::object()}, {"snapshot_data", {{"state", memory.dump()}}}}}}},
              {"snapshot_data", {{"state", R"({"clock":18446744073709551615})"}}}}
      .dump();
}

json MemoryOf(const std::string& state) {
  return json::parse(json::parse(state)["snapshots"]["memory-manager"]["snapshot_data"]["state"].get<std::string>());
}

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(SavedState, NamesNoMemoryToReadAndWhereEachRangeIsInTheFile) {
  // More than 3 GiB lie in two ranges, and the file has them in its own order.
  std::vector<Mapping> ranges = {{4 * kGiB, kGiB}, {0, 3 * kGiB}};
  auto state = StateOfSharedMemory(State({{0, 3 * kGiB}, {4 * kGiB, kGiB}}, ranges));
  ASSERT_TRUE(state);
  json memory = MemoryOf(*state);
  EXPECT_TRUE(memory["memory_ranges"]["data"].empty());
  EXPECT_EQ(memory["guest_ram_mappings"][0]["file_offset"], kGiB);
  EXPECT_EQ(memory["guest_ram_mappings"][1]["file_offset"], 0);
  EXPECT_EQ(memory["boot_ram"], uint64_t{1} << 63) << "what it does not understand is kept";
  EXPECT_EQ(json::parse(*state)["snapshot_data"]["state"], R"({"clock":18446744073709551615})");
}

TEST(SavedState, MemoryThatWasAddedOrIsNotInTheFileCannotBeMapped) {
  EXPECT_FALSE(StateOfSharedMemory(State({{0, kGiB}, {4 * kGiB, kGiB, true}}, {{0, kGiB}, {4 * kGiB, kGiB}})));
  EXPECT_FALSE(StateOfSharedMemory(State({{0, kGiB}, {4 * kGiB, kGiB, true}}, {{0, kGiB}})));
  EXPECT_FALSE(StateOfSharedMemory(State({{0, kGiB}}, {})));
  EXPECT_FALSE(StateOfSharedMemory(State({{0, kGiB}}, {{0, kGiB / 2}})));
  EXPECT_FALSE(StateOfSharedMemory(R"({"snapshots": {}})")) << "a state of another kind";
}

TEST(SavedState, WhatIsNoJsonIsADamagedSnapshot) {
  EXPECT_THROW(StateOfSharedMemory("{"), BadSpec);
  EXPECT_THROW(ConfigOfCopy("{", {}, "/m"), BadSpec);
  EXPECT_THROW(ConfigOfCopy("{}", {}, "/m"), BadSpec) << "no memory";
}

const char* const kSaved = R"({
  "cpus": {"boot_vcpus": 1, "max_vcpus": 1}, "memory": {"size": 134217728, "zones": null, "shared": false},
  "payload": {"kernel": "/old", "cmdline": "hostname=old", "initramfs": null},
  "disks": [{"id": "root", "path": "/old/root", "image_type": "Raw", "readonly": false, "serial": "root"},
            {"id": "_seed", "path": "/old/seed", "image_type": "Raw", "readonly": true}],
  "net": [{"id": "n", "tap": "vmtap0", "mac": "02:00:00:00:00:01", "num_queues": 2}],
  "vsock": {"cid": 3, "socket": "vsock.sock", "id": "_vsock4"}, "rng": {"src": "/dev/urandom", "id": "_rng1"}})";

TEST(SavedState, ACopyHasItsOwnFilesAndWhatTheSavedOneHadBesides) {
  VmConfig copy{
      .payload = PayloadConfig{.kernel = "/new", .cmdline = "hostname=new"},
      .disks = {{.pci = {.id = "root"}, .path = "/new/root", .backing_files = true, .image_type = ImageType::kQcow2}},
      .net = {{.pci = {.id = "n"}, .mac = "02:00:00:00:00:02"}},
      .vsock = VsockConfig{.cid = 3, .socket = "vsock.sock"}};
  json config = json::parse(ConfigOfCopy(kSaved, copy, ""));
  EXPECT_EQ(config["payload"], (json{{"kernel", "/new"}, {"cmdline", "hostname=new"}}));
  EXPECT_EQ(config["disks"][0], (json{{"id", "root"},
                                      {"path", "/new/root"},
                                      {"image_type", "Qcow2"},
                                      {"backing_files", true},
                                      {"readonly", false},
                                      {"serial", "root"}}));
  EXPECT_EQ(config["disks"][1]["path"], "/old/seed");
  EXPECT_EQ(config["net"][0], (json{{"id", "n"}, {"mac", "02:00:00:00:00:02"}, {"num_queues", 2}}));
  EXPECT_EQ(config["vsock"]["id"], "_vsock4");
  EXPECT_EQ(config["memory"], json::parse(kSaved)["memory"]);
}

TEST(SavedState, MemoryThatIsMappedIsThatOfAZone) {
  json config = json::parse(ConfigOfCopy(kSaved, {}, "/saved/memory-ranges"));
  EXPECT_EQ(config["memory"]["size"], 0);
  EXPECT_EQ(config["memory"]["zones"],
            json::parse(R"([{"id":"mem0","size":134217728,"file":"/saved/memory-ranges","shared":false}])"));
  // Zones that it has stay what they are: the state says where in the file each lies.
  std::string zones = R"({"memory": {"size": 0, "zones": [{"id": "near", "size": 1}, {"id": "far", "size": 2}]}})";
  config = json::parse(ConfigOfCopy(zones, {}, "/m"));
  EXPECT_EQ(config["memory"]["zones"], json::parse(R"([{"id":"near","size":1,"file":"/m","shared":false},
                            {"id":"far","size":2,"file":"/m","shared":false}])"));
}

}  // namespace
}  // namespace mayfly::ch
