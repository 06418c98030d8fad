#include "drivers/qemu/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;
using literals::operator""_MiB;

MachineSpec Minimal() {
  MachineSpec spec;
  spec.name = "kv";
  spec.boot.kernel = "/k";
  return spec;
}

std::vector<std::string> LineOf(const MachineSpec& spec, std::vector<PreparedDisk> disks = {},
                                Wiring wiring = Wiring::kDescriptors) {
  return QemuCommandLine({.program = "qemu",
                          .spec = spec,
                          .machine = *ChooseMachine(spec).type,
                          .tsc_khz = 2600000,
                          .disks = std::move(disks),
                          .directory = "/run/vm,1",
                          .wiring = wiring,
                          .extra = {"-extra"}});
}

// All values that `option` has, in order.
std::vector<std::string> ValuesOf(const std::vector<std::string>& line, const std::string& option) {
  std::vector<std::string> values;
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    if (line[i] == option) values.push_back(line[i + 1]);
  }
  return values;
}

TEST(QemuCommandLine, ASharedDirectoryIsServedFromSharedMemoryByVirtioOne) {
  MachineSpec spec = Minimal();
  spec.shares = {{.tag = "src", .path = "/src"}, {.tag = "data", .path = "/data", .readonly = true}};
  std::vector<std::string> line = LineOf(spec);
  EXPECT_THAT(ValuesOf(line, "-chardev"), Contains("socket,id=share1,path=/run/vm,,1/share1.sock"));
  EXPECT_THAT(ValuesOf(line, "-device"),
              Contains(R"({"chardev":"share1","driver":"vhost-user-fs-device","id":"fs-1","tag":"data"})"));
  EXPECT_THAT(ValuesOf(line, "-global"), Contains("virtio-mmio.force-legacy=off"));
  EXPECT_THAT(ValuesOf(line, "-object"),
              Contains(R"({"id":"ram","qom-type":"memory-backend-memfd","share":true,"size":268435456})"));
}

TEST(QemuCommandLine, OfAMinimalSpecIsTheFastMachineAndNothingThatWasNotAskedFor) {
  MachineSpec spec = Minimal();
  EXPECT_EQ(LineOf(spec), (std::vector<std::string>{
                              "qemu",
                              "-name",
                              "guest=kv,debug-threads=on",
                              "-nodefaults",
                              "-no-user-config",
                              "-display",
                              "none",
                              "-sandbox",
                              "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                              "-action",
                              "reboot=reset,shutdown=poweroff,panic=pause,watchdog=reset",
                              "-rtc",
                              "base=utc",
                              "-accel",
                              "tcg,thread=multi,tb-size=64",
                              "-cpu",
                              "max",
                              "-smp",
                              "cpus=1,sockets=1,cores=1",
                              "-object",
                              R"({"id":"ram","qom-type":"memory-backend-ram","size":268435456})",
                              "-M",
                              "microvm,acpi=on,rtc=on,pit=off,pcie=off,usb=off,isa-serial=on,memory-backend=ram",
                              "-m",
                              "size=262144k",
                              "-chardev",
                              "socket,id=qmp,fd=3",
                              "-mon",
                              "chardev=qmp,mode=control",
                              "-chardev",
                              "file,id=serial,path=/run/vm,,1/console.log,append=on",
                              "-serial",
                              "chardev:serial",
                              "-chardev",
                              "socket,id=agent,fd=4",
                              "-device",
                              "virtio-serial-device,id=agent-bus,max_ports=2",
                              "-device",
                              "virtserialport,bus=agent-bus.0,chardev=agent,id=agent,name=org.mayfly.agent",
                              "-object",
                              "rng-builtin,id=entropy",
                              "-device",
                              "virtio-rng-device,rng=entropy,id=rng",
                              "-kernel",
                              "/k",
                              "-append",
                              "console=ttyS0 pci=off tsc_early_khz=2600000 hostname=kv",
                              "-extra"}));
}

TEST(QemuCommandLine, LeavesOutWhatTheSpecTurnsOff) {
  MachineSpec spec = Minimal();
  spec.agent = false;
  spec.rng = false;
  EXPECT_THAT(ValuesOf(LineOf(spec), "-device"), testing::IsEmpty());
}

TEST(QemuCommandLine, PutsTheSpecsKernelWordsLastSoThatTheyWin) {
  MachineSpec spec = Minimal();
  spec.boot.command_line = "quiet console=tty0";
  EXPECT_EQ(ValuesOf(LineOf(spec), "-append").at(0),
            "console=ttyS0 pci=off tsc_early_khz=2600000 hostname=kv quiet console=tty0");
}

TEST(QemuCommandLine, UsesTheHostsProcessorWithKvm) {
  MachineSpec spec = Minimal();
  auto line = QemuCommandLine({.program = "qemu",
                               .spec = spec,
                               .machine = MachineTypeOf(MachineKind::kPc),
                               .kvm = true,
                               .tsc_khz = 2600000,
                               .directory = "/d"});
  EXPECT_EQ(ValuesOf(line, "-accel").at(0), "kvm");
  EXPECT_EQ(ValuesOf(line, "-cpu").at(0), "host");
  EXPECT_THAT(ValuesOf(line, "-append").at(0), Not(HasSubstr("tsc_early_khz")));
}

TEST(QemuCommandLine, ForPeopleHasSocketsThatCanBeConnectedTo) {
  MachineSpec spec = Minimal();
  auto chardevs = ValuesOf(LineOf(spec, {}, Wiring::kPaths), "-chardev");
  EXPECT_THAT(chardevs, Contains("socket,id=qmp,path=/run/vm,,1/qmp.sock,server=on,wait=off"));
  EXPECT_THAT(chardevs, Contains("socket,id=agent,path=/run/vm,,1/agent.sock,server=on,wait=off"));
}

TEST(QemuCommandLine, KeepsTheConsoleLogWhereverTheSerialPortGoes) {
  for (auto [kind, begins] : {std::pair(SerialKind::kFile, "file,"), std::pair(SerialKind::kPty, "pty,"),
                              std::pair(SerialKind::kSocket, "socket,id=serial,path=/run/vm,,1/serial.sock")}) {
    MachineSpec spec = Minimal();
    spec.serial = kind;
    std::string serial = ValuesOf(LineOf(spec), "-chardev").at(1);
    EXPECT_THAT(serial, StartsWith(begins));
    EXPECT_THAT(serial, HasSubstr("/console.log"));
  }
}

TEST(QemuCommandLine, GivesEachDiskItsIdAsSerialNumberAndItsCacheMode) {
  struct Row {
    DiskCache cache;
    bool direct, no_flush;
    std::string write_cache;
  };
  for (const Row& row :
       {Row{DiskCache::kUnsafe, false, true, "on"}, Row{DiskCache::kWriteback, false, false, "on"},
        Row{DiskCache::kNone, true, false, "on"}, Row{DiskCache::kWritethrough, false, false, "off"}}) {
    MachineSpec spec = Minimal();
    Disk disk{.id = "data", .cache = row.cache};
    auto line = LineOf(spec, {{.disk = disk, .path = "/a, b\".qcow2", .format = DiskFormat::kQcow2}});
    auto node = nlohmann::json::parse(ValuesOf(line, "-blockdev").at(0));
    EXPECT_EQ(node["file"]["filename"], "/a, b\".qcow2");
    EXPECT_EQ(node["driver"], "qcow2");
    EXPECT_EQ(node["cache"]["direct"], row.direct);
    EXPECT_EQ(node["file"]["cache"]["no-flush"], row.no_flush);
    auto device = nlohmann::json::parse(ValuesOf(line, "-device").at(2));
    EXPECT_EQ(device["serial"], "data");
    EXPECT_EQ(device["drive"], node["node-name"]);
    EXPECT_EQ(device["write-cache"], row.write_cache);
  }
}

TEST(QemuCommandLine, LimitsADiskByAThrottleGroupOfItsOwn) {
  MachineSpec spec = Minimal();
  Disk disk{.id = "slow", .limit = {.bytes_per_second = 1_MiB, .operations_per_second = 50}};
  auto line = LineOf(spec, {{.disk = disk, .path = "/s.raw"}});
  EXPECT_THAT(
      ValuesOf(line, "-object"),
      Contains(R"({"id":"limit-slow","limits":{"bps-total":1048576,"iops-total":50},"qom-type":"throttle-group"})"));
  auto node = nlohmann::json::parse(ValuesOf(line, "-blockdev").at(0));
  EXPECT_EQ(node["driver"], "throttle");
  EXPECT_EQ(node["throttle-group"], "limit-slow");
  EXPECT_EQ(node["file"]["file"]["filename"], "/s.raw");
}

TEST(QemuCommandLine, ConnectsNicsByKind) {
  MachineSpec spec = Minimal();
  spec.nics = {{.id = "a", .kind = NicKind::kNat, .mac = "02:00:00:00:00:01"},
               {.id = "b", .kind = NicKind::kSocket, .mac = "02:00:00:00:00:02", .source = "/sw.sock", .mtu = 9000},
               {.id = "c", .kind = NicKind::kNone, .mac = "02:00:00:00:00:03"}};
  auto line = LineOf(spec);
  auto netdevs = ValuesOf(line, "-netdev");
  ASSERT_EQ(netdevs.size(), 7U);
  EXPECT_EQ(netdevs[0], R"({"hubid":0,"id":"net-a","type":"hubport"})");
  EXPECT_EQ(netdevs[1], R"({"id":"wire-0","type":"user"})");
  EXPECT_EQ(netdevs[2], R"({"hubid":0,"id":"port-0","netdev":"wire-0","type":"hubport"})");
  EXPECT_EQ(netdevs[6], R"({"hubid":2,"id":"net-c","type":"hubport"})") << "and nothing at the other end";
  auto socket = nlohmann::json::parse(netdevs[4]);
  EXPECT_EQ(socket["remote"]["path"], "/sw.sock");
  EXPECT_EQ(socket["local"]["path"], "/run/vm,1/nic-b.sock");
  auto devices = ValuesOf(line, "-device");
  EXPECT_EQ(devices.at(2), R"({"driver":"virtio-net-device","id":"nic-a","mac":"02:00:00:00:00:01","netdev":"net-a"})");
  EXPECT_EQ(nlohmann::json::parse(devices.at(3))["host_mtu"], 9000);
}

TEST(QemuCommandLine, TakesATapDeviceByItsDescriptorOrForPeopleByItsName) {
  MachineSpec spec = Minimal();
  spec.nics = {{.id = "a", .kind = NicKind::kNone, .mac = "02:00:00:00:00:01"},
               {.id = "new", .kind = NicKind::kTap, .mac = "02:00:00:00:00:02"},
               {.id = "old", .kind = NicKind::kTap, .mac = "02:00:00:00:00:03", .source = "tap3"}};
  auto netdevs = ValuesOf(LineOf(spec), "-netdev");
  EXPECT_THAT(netdevs, Contains(MatchesRegex(R"(\{"fd":"[0-9]+","id":"wire-1","type":"tap"\})")));
  EXPECT_THAT(netdevs, Contains(MatchesRegex(R"(\{"fd":"[0-9]+","id":"wire-2","type":"tap"\})")));
  netdevs = ValuesOf(LineOf(spec, {}, Wiring::kPaths), "-netdev");
  EXPECT_THAT(netdevs, Contains(R"({"downscript":"no","id":"wire-1","script":"no","type":"tap"})"));
  EXPECT_THAT(netdevs, Contains(R"({"downscript":"no","id":"wire-2","ifname":"tap3","script":"no","type":"tap"})"));
}

TEST(QemuCommandLine, GivesAZoneThatGrowsRoomInItsNode) {
  MachineSpec spec = Minimal();
  spec.zones = {{.id = "fixed", .size = 128_MiB, .cpus = {0}}, {.id = "grows", .size = 128_MiB, .max_size = 384_MiB}};
  auto line = LineOf(spec);
  EXPECT_THAT(
      ValuesOf(line, "-object"),
      Contains(
          R"({"id":"room-grows","qom-type":"memory-backend-memfd","reserve":false,"share":true,"size":268435456})"));
  EXPECT_THAT(ValuesOf(line, "-device"),
              Contains(R"({"driver":"virtio-mem-pci","id":"zone-grows","memdev":"room-grows","node":1})"));
  EXPECT_EQ(ValuesOf(line, "-m").at(0), "size=262144k,slots=16,maxmem=1572864k") << "with a gap for its alignment";
  EXPECT_THAT(ValuesOf(line, "-append").at(0), HasSubstr(" memhp_default_state=online_movable"));
}

TEST(QemuCommandLine, PutsTheDisksBehindTheIommu) {
  MachineSpec spec = Minimal();
  spec.iommu = true;
  auto line = LineOf(spec, {{.disk = {.id = "spare"}, .path = "/s.raw"}});
  auto devices = ValuesOf(line, "-device");
  EXPECT_EQ(devices.at(0), "intel-iommu,intremap=on") << "before what is behind it";
  EXPECT_THAT(devices,
              Contains(testing::AllOf(HasSubstr("\"serial\":\"spare\""), HasSubstr("\"iommu_platform\":true"))));
  EXPECT_THAT(ValuesOf(line, "-append").at(0), HasSubstr(" intel_iommu=on"));
  EXPECT_THAT(ValuesOf(line, "-M").at(0), StartsWith("q35,"));
}

TEST(QemuCommandLine, HandsAHostDeviceOnByItsAddressOrPathAndConnectsAVsock) {
  MachineSpec spec = Minimal();
  spec.passthrough = {{.id = "a", .path = "0000:00:05.0"}, {.id = "b", .path = "/sys/bus/mdev/devices/x"}};
  spec.vsock = Vsock{};
  auto line = QemuCommandLine(
      {.program = "qemu", .spec = spec, .machine = *ChooseMachine(spec).type, .vsock_cid = 4242, .directory = "/d"});
  auto devices = ValuesOf(line, "-device");
  EXPECT_THAT(devices, Contains(R"({"driver":"vfio-pci","host":"0000:00:05.0","id":"host-a"})"));
  EXPECT_THAT(devices, Contains(R"({"driver":"vfio-pci","id":"host-b","sysfsdev":"/sys/bus/mdev/devices/x"})"));
  EXPECT_THAT(devices, Contains(R"({"driver":"vhost-vsock-pci","guest-cid":4242,"id":"vsock","vhostfd":"6"})"));
}

TEST(QemuCommandLine, SharesTheMemoryOfAMachineThatSharesCanBeAddedToButNotThatOfACopy) {
  MachineSpec spec = Minimal();
  spec.machine = MachineKind::kPc;
  CommandLineInput input{
      .program = "qemu", .spec = spec, .machine = MachineTypeOf(MachineKind::kPc), .directory = "/d"};
  EXPECT_THAT(ValuesOf(QemuCommandLine(input), "-object").at(0), HasSubstr(R"("share":true)"));
  input.memory = {MemoryKind::kPrivate, "/template"};
  EXPECT_THAT(ValuesOf(QemuCommandLine(input), "-object").at(0),
              testing::AllOf(HasSubstr(R"("share":false)"), HasSubstr("memory-backend-file")));
}

TEST(QemuCommandLine, SplitsMemoryIntoZones) {
  MachineSpec spec = Minimal();
  spec.cpus = 2;
  spec.zones = {{.id = "near", .size = 128_MiB, .cpus = {0}},
                {.id = "far", .size = 128_MiB, .cpus = {1}, .host_node = 0}};
  auto line = LineOf(spec);
  EXPECT_THAT(ValuesOf(line, "-M").at(0), StartsWith("q35,"));
  EXPECT_THAT(ValuesOf(line, "-M").at(0), Not(HasSubstr("memory-backend")));
  EXPECT_EQ(ValuesOf(line, "-numa"), (std::vector<std::string>{"node,nodeid=0,memdev=zone-near,cpus=0",
                                                               "node,nodeid=1,memdev=zone-far,cpus=1"}));
  EXPECT_THAT(
      ValuesOf(line, "-object"),
      Contains(
          R"({"host-nodes":[0],"id":"zone-far","policy":"bind","qom-type":"memory-backend-memfd","share":true,"size":134217728})"));
}

TEST(QemuCommandLine, ArrangesProcessorsAsAskedFor) {
  MachineSpec spec = Minimal();
  spec.cpus = 8;
  spec.topology = {.sockets = 2, .dies = 0, .cores = 2, .threads = 2};
  EXPECT_EQ(ValuesOf(LineOf(spec), "-smp").at(0), "cpus=8,sockets=2,dies=1,cores=2,threads=2");
}

TEST(QemuCommandLine, HasADisplayOfTheSizeAskedFor) {
  MachineSpec spec = Minimal();
  spec.graphics = Graphics{.width = 800, .height = 600};
  std::vector<std::string> line = LineOf(spec);
  EXPECT_THAT(ValuesOf(line, "-device"), Contains("VGA,id=display,edid=on,xres=800,yres=600"));
}

TEST(QemuCommandLine, TellsWhatAWatchdogDoes) {
  MachineSpec spec = Minimal();
  spec.watchdog = Watchdog{.action = WatchdogAction::kPowerOff};
  auto line = LineOf(spec);
  EXPECT_THAT(ValuesOf(line, "-action").at(0), HasSubstr("watchdog=poweroff"));
  EXPECT_THAT(ValuesOf(line, "-device"), Contains("i6300esb,id=watchdog"));
}

// --- Which machine --------------------------------------------------------------------------------------------------

struct MachineRow {
  const char* name;
  void (*change)(MachineSpec&);
  std::string_view machine;
};

class ChosenMachine : public testing::TestWithParam<MachineRow> {};

TEST_P(ChosenMachine, FollowsFromTheSpec) {
  MachineSpec spec = Minimal();
  GetParam().change(spec);
  EXPECT_EQ(ChooseMachine(spec).type->name, GetParam().machine);
}

INSTANTIATE_TEST_SUITE_P(
    Specs, ChosenMachine,
    testing::Values(MachineRow{"Plain", [](MachineSpec&) {}, "microvm"},
                    MachineRow{"Pvpanic", [](MachineSpec& s) { s.pvpanic = true; }, "microvm"},
                    MachineRow{"AskedPc", [](MachineSpec& s) { s.machine = MachineKind::kPc; }, "q35"},
                    MachineRow{"Watchdog", [](MachineSpec& s) { s.watchdog = Watchdog{}; }, "q35"},
                    MachineRow{"GenerationId", [](MachineSpec& s) { s.generation_id = true; }, "q35"},
                    MachineRow{"CpuHotplug", [](MachineSpec& s) { s.max_cpus = 4; }, "q35"},
                    MachineRow{"Zones", [](MachineSpec& s) { s.zones.push_back({.id = "a"}); }, "q35"},
                    MachineRow{"Firmware", [](MachineSpec& s) { s.boot.firmware = "uefi"; }, "q35"}),
    [](const auto& row) { return row.param.name; });

TEST(ChooseMachine, RefusesAMicroMachineThatNeedsPciAndNamesTheField) {
  MachineSpec spec = Minimal();
  spec.machine = MachineKind::kMicro;
  spec.watchdog = Watchdog{};
  try {
    ChooseMachine(spec);
    FAIL() << "a microvm has no PCI";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("watchdog: it is a PCI device"));
    EXPECT_THAT(error.what(), HasSubstr("\"pc\""));
  }
}

TEST(ChooseMachine, RefusesMoreDevicesThanThereAreSlots) {
  MachineSpec spec = Minimal();
  for (int i = 0; i < 40; ++i) spec.disks.push_back({.id = "d" + std::to_string(i)});
  EXPECT_THROW(ChooseMachine(spec), BadSpec);
}

}  // namespace
}  // namespace mayfly::internal
