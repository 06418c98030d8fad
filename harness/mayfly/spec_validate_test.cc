// What Validate accepts, and the message for each wrong field. Values that depend on the host are made in the test.
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/spec.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <string_view>

#include <gmock/gmock.h>

namespace mayfly {
namespace {

using literals::operator""_B;
using literals::operator""_GiB;
using literals::operator""_KiB;
using literals::operator""_MiB;
using literals::operator""_TiB;
using testing::MatchesRegex;
namespace fs = std::filesystem;

std::string Refusal(const MachineSpec& spec, std::string_view where = "spec") {
  try {
    Validate(spec, where);
  } catch (const BadSpec& error) {
    return error.text().summary;
  }
  return "accepted";
}

// Files that specs can name. In messages their directory stands as DIR.
class SpecValidate : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "mayfly_spec_XXXXXX";
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    directory_ = path;
    Write("raw.img", std::string(4096, '\0'));
    Write("qcow2.img", "QFI\xfb" + std::string(512, '\0'));
    Write("vmlinux",
          "\x7f"
          "ELF");
    Write("bzImage", std::string(0x202, '\0') + "HdrS");
    Write("notes.txt", "no kernel at all");
  }
  void TearDown() override { fs::remove_all(directory_); }

  void Write(std::string_view name, std::string_view content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
  }

  std::string File(std::string_view name) const { return directory_ / name; }

  // The refusal with the test's directory replaced.
  std::string Told(const MachineSpec& spec) const {
    std::string text = Refusal(spec);
    for (size_t at = text.find(directory_); at != std::string::npos; at = text.find(directory_)) {
      text.replace(at, directory_.native().size(), "DIR");
    }
    return text;
  }

  fs::path directory_;
};

// Specs that differ from the default in one respect, with the message.
struct WrongSpec {
  std::string_view name;
  void (*change)(MachineSpec& spec);
  std::string_view message;
};

void PrintTo(const WrongSpec& wrong, std::ostream* out) { *out << wrong.name; }

class WrongSpecField : public testing::TestWithParam<WrongSpec> {};

TEST_P(WrongSpecField, IsRefusedWithItsValueAndWhatIsAllowed) {
  MachineSpec spec;
  GetParam().change(spec);
  EXPECT_EQ(Refusal(spec), GetParam().message);
}

constexpr WrongSpec kWrongSpecs[] = {
    {"NoCpus", [](MachineSpec& s) { s.cpus = 0; }, "spec: cpus: 0 is not allowed; allowed: 1 to 255"},
    {"TooManyCpus", [](MachineSpec& s) { s.cpus = 256; }, "spec: cpus: 256 is not allowed; allowed: 1 to 255"},
    {"FewerMaxCpusThanCpus",
     [](MachineSpec& s) {
       s.cpus = 4;
       s.max_cpus = 2;
     },
     "spec: max_cpus: 2 is less than cpus (4); allowed: 0 for no hotplug, or 4 to 255"},
    {"TooManyMaxCpus", [](MachineSpec& s) { s.max_cpus = 300; },
     "spec: max_cpus: 300 is not allowed; allowed: 0 to 255"},
    {"TopologyOfOtherProduct",
     [](MachineSpec& s) {
       s.cpus = 4;
       s.topology = {.sockets = 1, .dies = 1, .cores = 2, .threads = 1};
     },
     "spec: topology: 1 sockets of 1 dies of 2 cores of 1 threads are 2 vCPUs; allowed: a product of 4"},
    {"TopologyWithoutDies", [](MachineSpec& s) { s.topology = {.sockets = 1, .cores = 1, .threads = 1}; },
     "spec: topology.dies: 0 is not allowed; allowed: 1 to 255"},
    {"AffinityOfNoVcpu", [](MachineSpec& s) { s.affinity = {{.vcpu = 1, .host_cpus = {0}}}; },
     "spec: affinity[0].vcpu: 1 is not allowed; allowed: 0 to 0"},
    {"AffinityWithoutCpus", [](MachineSpec& s) { s.affinity = {{.vcpu = 0}}; },
     "spec: affinity[0].host_cpus: is empty; allowed: one CPU of the host or more"},
    {"MemoryWithAFraction", [](MachineSpec& s) { s.memory = 64_MiB + 1_KiB; },
     "spec: memory: \"65537KiB\" is not allowed; allowed: multiples of 1MiB"},
    {"HugepagesHalved",
     [](MachineSpec& s) {
       s.memory = 65_MiB;
       s.hugepages = true;
     },
     "spec: memory: \"65MiB\" is not allowed; allowed: multiples of 2MiB"},
    {"LessMaxMemoryThanMemory", [](MachineSpec& s) { s.max_memory = 128_MiB; },
     "spec: max_memory: \"128MiB\" is less than memory; allowed: 0 for no hotplug, or 256MiB and more"},
    {"ZonesThatDoNotAddUp",
     [](MachineSpec& s) { s.zones = {{.id = "a", .size = 128_MiB}, {.id = "b", .size = 64_MiB}}; },
     "spec: zones: their sizes add up to 192MiB; allowed: a sum of memory, 256MiB"},
    {"ZoneLargerThanMemory", [](MachineSpec& s) { s.zones = {{.id = "a", .size = 1_TiB}}; },
     "spec: zones[0].size: \"1TiB\" is not allowed; allowed: 1MiB to memory, 256MiB"},
    {"ZoneThatShrinks", [](MachineSpec& s) { s.zones = {{.id = "a", .size = 256_MiB, .max_size = 128_MiB}}; },
     "spec: zones[0].max_size: \"128MiB\" is less than size; allowed: 0 for no growth, or 256MiB and more"},
    {"ZonesThatShareACpu",
     [](MachineSpec& s) {
       s.zones = {{.id = "a", .size = 128_MiB, .cpus = {0}}, {.id = "b", .size = 128_MiB, .cpus = {0}}};
     },
     "spec: zones[1].cpus[0]: \"0\" is that of zones[0].cpus[0] too; allowed: one that is unique"},
    {"BalloonOfAllMemory", [](MachineSpec& s) { s.balloon = Balloon{.size = 256_MiB}; },
     "spec: balloon.size: \"256MiB\" leaves the guest no memory; allowed: less than memory, 256MiB"},
    {"NothingToBoot", [](MachineSpec& s) { s.image.clear(); },
     "spec: boot: there is nothing to start; allowed: an image, boot.kernel or boot.firmware"},
    {"MissingKernel", [](MachineSpec& s) { s.boot.kernel = "/nonexistent/vmlinuz"; },
     "spec: boot.kernel: \"/nonexistent/vmlinuz\" does not exist; allowed: a kernel file"},
    {"InitramfsWithoutKernel",
     [](MachineSpec& s) {
       s.image.clear();
       s.boot.initramfs = "/dev/null";
     },
     "spec: boot.initramfs: there is no kernel for it; allowed: with boot.kernel or image"},
    {"FirmwareWithKernel", [](MachineSpec& s) { s.boot = {.kernel = "/dev/null", .firmware = "uefi"}; },
     "spec: boot.firmware: \"uefi\" with a kernel or initramfs; allowed: firmware, which boots from a disk, or "
     "boot.kernel"},
    {"MissingFirmware", [](MachineSpec& s) { s.boot.firmware = "/nonexistent/OVMF.fd"; },
     "spec: boot.firmware: \"/nonexistent/OVMF.fd\" does not exist; allowed: \"uefi\" or a firmware file"},
    {"LongCommandLine", [](MachineSpec& s) { s.boot.command_line = std::string(2048, 'x'); },
     "spec: boot.command_line: 2048 bytes are too many; allowed: at most 2047"},
    {"CommandLineOfTwoLines", [](MachineSpec& s) { s.boot.command_line = "quiet\nro"; },
     "spec: boot.command_line: \"quiet\\nro\" has a line break; allowed: one line"},
    {"DiskOfNothing", [](MachineSpec& s) { s.disks = {{.id = "data"}}; },
     "spec: disks[0]: has neither path nor size; allowed: an image's path, or the size of a new disk"},
    {"DiskWithoutId", [](MachineSpec& s) { s.disks = {{.size = 1_MiB}}; },
     "spec: disks[0].id: \"\" is not allowed; allowed: 1 to 20 of [a-zA-Z0-9_-]"},
    {"DiskWithALongId", [](MachineSpec& s) { s.disks = {{.id = "abcdefghijklmnopqrstu", .size = 1_MiB}}; },
     "spec: disks[0].id: \"abcdefghijklmnopqrstu\" is not allowed; allowed: 1 to 20 of [a-zA-Z0-9_-]"},
    {"UsbDiskWithoutAController", [](MachineSpec& s) { s.disks = {{.id = "stick", .size = 1_MiB, .usb = true}}; },
     "spec: disks[0].usb: the VM has no USB controller; allowed: with \"usb\": true in the spec"},
    {"DiskOfHalfASector", [](MachineSpec& s) { s.disks = {{.id = "data", .size = 768_B}}; },
     "spec: disks[0].size: \"768B\" is not allowed; allowed: multiples of 512B"},
    {"DirectoryAsDisk", [](MachineSpec& s) { s.disks = {{.id = "data", .path = "/usr"}}; },
     "spec: disks[0].path: \"/usr\" is a directory; allowed: an image file or a block device"},
    {"TwoDisksOfOneId",
     [](MachineSpec& s) { s.disks = {{.id = "data", .size = 1_MiB}, {.id = "data", .size = 1_MiB}}; },
     "spec: disks[1].id: \"data\" is that of disks[0].id too; allowed: one that is unique"},
    {"NicWithTheIdOfADisk",
     [](MachineSpec& s) {
       s.disks = {{.id = "a", .size = 1_MiB}};
       s.nics = {{.id = "a"}};
     },
     "spec: nics[0].id: \"a\" is that of disks[0].id too; allowed: one that is unique"},
    {"MissingPmem", [](MachineSpec& s) { s.pmem = {{.id = "p", .path = "/nonexistent/p"}}; },
     "spec: pmem[0].path: \"/nonexistent/p\" does not exist; allowed: a file or a device"},
    {"MacThatIsNone", [](MachineSpec& s) { s.nics = {{.id = "lan", .mac = "52:54:00:12:34"}}; },
     "spec: nics[0].mac: \"52:54:00:12:34\" is no MAC address; allowed: six bytes such as 52:54:00:12:34:56"},
    {"MacWithDashes", [](MachineSpec& s) { s.nics = {{.id = "lan", .mac = "52-54-00-12-34-56"}}; },
     "spec: nics[0].mac: \"52-54-00-12-34-56\" is no MAC address; allowed: six bytes such as 52:54:00:12:34:56"},
    {"MacOfAGroup", [](MachineSpec& s) { s.nics = {{.id = "lan", .mac = "01:00:5e:00:00:01"}}; },
     "spec: nics[0].mac: \"01:00:5e:00:00:01\" is the address of a group; allowed: an even first byte, such as "
     "52:54:00:12:34:56"},
    {"MacOfZeros", [](MachineSpec& s) { s.nics = {{.id = "lan", .mac = "00:00:00:00:00:00"}}; },
     "spec: nics[0].mac: \"00:00:00:00:00:00\" is no address; allowed: six bytes such as 52:54:00:12:34:56"},
    {"DuplicateMac",
     [](MachineSpec& s) {
       s.nics = {{.id = "a", .mac = "52:54:00:ab:cd:ef"}, {.id = "b"}, {.id = "c", .mac = "52:54:00:AB:CD:EF"}};
     },
     "spec: nics[2].mac: \"52:54:00:ab:cd:ef\" is that of nics[0].mac too; allowed: one that is unique"},
    {"NatWithSource", [](MachineSpec& s) { s.nics = {{.id = "lan", .source = "br0"}}; },
     "spec: nics[0].source: \"br0\" has no meaning for this kind of NIC; allowed: \"\""},
    {"BridgeWithoutSource", [](MachineSpec& s) { s.nics = {{.id = "lan", .kind = NicKind::kBridged}}; },
     "spec: nics[0].source: \"\" is not allowed; allowed: 1 to 15 of [a-zA-Z0-9._-]"},
    {"SocketWithoutSource", [](MachineSpec& s) { s.nics = {{.id = "lan", .kind = NicKind::kSocket}}; },
     "spec: nics[0].source: is not given; allowed: the path of a unix socket"},
    {"TapWithALongName",
     [](MachineSpec& s) { s.nics = {{.id = "lan", .kind = NicKind::kTap, .source = "interface-of-mine"}}; },
     "spec: nics[0].source: \"interface-of-mine\" is not allowed; allowed: 1 to 15 of [a-zA-Z0-9._-]"},
    {"TapThatIsNotThere",
     [](MachineSpec& s) { s.nics = {{.id = "lan", .kind = NicKind::kTap, .source = "mayfly-none"}}; },
     "spec: nics[0].source: \"mayfly-none\" is no TAP device of this host; allowed: the name of one, or \"\" for a new "
     "one"},
    {"MtuBelowIpv4s", [](MachineSpec& s) { s.nics = {{.id = "lan", .mtu = 67}}; },
     "spec: nics[0].mtu: 67 is not allowed; allowed: 68 to 65535"},
    {"MissingShare", [](MachineSpec& s) { s.shares = {{.tag = "src", .path = "/nonexistent"}}; },
     "spec: shares[0].path: \"/nonexistent\" does not exist; allowed: a directory"},
    {"FileAsShare", [](MachineSpec& s) { s.shares = {{.tag = "src", .path = "/etc/passwd"}}; },
     "spec: shares[0].path: \"/etc/passwd\" is no directory; allowed: a directory"},
    {"DuplicateTag",
     [](MachineSpec& s) { s.shares = {{.tag = "src", .path = "/usr"}, {.tag = "src", .path = "/tmp"}}; },
     "spec: shares[1].tag: \"src\" is that of shares[0].tag too; allowed: one that is unique"},
    {"LongTag", [](MachineSpec& s) { s.shares = {{.tag = "a-tag-of-thirty-seven-characters-long", .path = "/usr"}}; },
     "spec: shares[0].tag: \"a-tag-of-thirty-seven-characters-long\" is not allowed; allowed: 1 to 36 of "
     "[a-zA-Z0-9._-]"},
    {"CidOfTheHost", [](MachineSpec& s) { s.vsock = Vsock{.cid = 2}; },
     "spec: vsock.cid: 2 is not allowed; allowed: 3 to 4294967294"},
    {"MissingTpmState", [](MachineSpec& s) { s.tpm = Tpm{.state = "/nonexistent"}; },
     "spec: tpm.state: \"/nonexistent\" does not exist; allowed: a directory"},
    {"ScreenWithoutWidth", [](MachineSpec& s) { s.graphics = Graphics{.width = 0}; },
     "spec: graphics.width: 0 is not allowed; allowed: 16 to 16384"},
    {"MissingPciDevice", [](MachineSpec& s) { s.passthrough = {{.id = "gpu", .path = "ffff:ff:1f.7"}}; },
     "spec: passthrough[0].path: \"ffff:ff:1f.7\" is no device of this host; allowed: a PCI address or a path in "
     "/sys/bus"},
    {"NameThatIsNoHostName", [](MachineSpec& s) { s.name = "my vm"; },
     "spec: name: \"my vm\" is not allowed; allowed: 1 to 63 of [a-zA-Z0-9._-]"},
    {"NameWithADashFirst", [](MachineSpec& s) { s.name = "-vm"; },
     "spec: name: \"-vm\" is no host name; allowed: a letter or digit first"},
    {"ImageThatIsAPath", [](MachineSpec& s) { s.image = "../tiny"; },
     "spec: image: \"../tiny\" is not allowed; allowed: 1 to 63 of [a-zA-Z0-9._-]"},
    {"NegativeTimeout", [](MachineSpec& s) { s.boot_timeout = std::chrono::milliseconds(-1); },
     "spec: boot_timeout: -1 ms is not allowed; allowed: 0 for the default, to 86400000"},
    {"NulByte", [](MachineSpec& s) { s.boot.command_line = std::string("a\0b", 3); },
     "spec: boot.command_line: \"a\\u0000b\" has a NUL byte; allowed: text without one"},
    {"NoUtf8", [](MachineSpec& s) { s.seed = Seed{.user_data = "\xff"}; },
     "spec: seed.user_data: \"\uFFFD\" is not allowed; allowed: UTF-8"},
    {"NoValueOfTheEnum", [](MachineSpec& s) { s.serial = static_cast<SerialKind>(9); },
     "spec: serial: 9 is no value of the enum"},
};

INSTANTIATE_TEST_SUITE_P(, WrongSpecField, testing::ValuesIn(kWrongSpecs),
                         [](const auto& param_info) { return std::string(param_info.param.name); });

TEST_F(SpecValidate, AcceptsTheDefaultAndAFullSpec) {
  EXPECT_EQ(Refusal(MachineSpec()), "accepted");
  MachineSpec spec{.cpus = 2, .memory = 64_MiB, .image = "", .name = "kv-1"};
  spec.boot = {.kernel = File("bzImage"), .initramfs = File("raw.img"), .command_line = std::string(2047, 'x')};
  spec.max_cpus = 4;
  spec.topology = {.sockets = 1, .dies = 1, .cores = 2, .threads = 2};
  spec.max_memory = 128_MiB;
  spec.zones = {{.id = "a", .size = 32_MiB, .max_size = 64_MiB, .cpus = {0, 1}},
                {.id = "b", .size = 32_MiB, .cpus = {2, 3}}};
  spec.balloon = Balloon{.size = 16_MiB};
  spec.disks = {{.id = "raw", .path = File("raw.img"), .size = 1_MiB},
                {.id = "qcow2", .path = File("qcow2.img"), .format = DiskFormat::kQcow2, .clone = false},
                {.id = "new", .size = 1_GiB}};
  spec.pmem = {{.id = "pmem", .path = File("raw.img")}};
  spec.seed = Seed{.user_data = "#cloud-config\n"};
  spec.nics = {{.id = "nat", .mac = "52:54:00:12:34:56", .mtu = 1400}, {.id = "tap", .kind = NicKind::kTap}};
  spec.shares = {{.tag = "here", .path = directory_}};
  spec.vsock = Vsock{.cid = 3};
  spec.tpm = Tpm{};
  spec.graphics = Graphics{};
  spec.boot_timeout = std::chrono::hours(24);
  EXPECT_EQ(Refusal(spec), "accepted");
}

TEST_F(SpecValidate, TellsHowMuchMemoryTheHostHas) {
  EXPECT_THAT(
      Refusal({.memory = 3_TiB}, "vm.json"),
      MatchesRegex(R"(vm\.json: memory: "3TiB" is more than this host has \([0-9.e+]+ [GM]iB, [0-9.e+]+ [GM]iB )"
                   R"(free\); allowed: 32MiB to [0-9]+[GM]iB)"));
  EXPECT_THAT(Refusal({.memory = 16_MiB}),
              MatchesRegex(R"(spec: memory: "16MiB" is too little for a guest; allowed: 32MiB to [0-9]+[GM]iB)"));
}

TEST_F(SpecValidate, RefusesAffinityToACpuThatTheHostLacks) {
  MachineSpec spec;
  spec.affinity = {{.vcpu = 0, .host_cpus = {1000}}};
  EXPECT_THAT(Refusal(spec),
              MatchesRegex(R"(spec: affinity\[0\]\.host_cpus\[0\]: CPU 1000 is not one that this process may use; )"
                           R"(allowed: [0-9, ]+)"));
}

TEST_F(SpecValidate, RefusesANumaNodeThatTheHostLacks) {
  MachineSpec spec;
  spec.zones = {{.id = "a", .size = spec.memory, .host_node = 4095}};
  EXPECT_THAT(Refusal(spec),
              MatchesRegex(R"(spec: zones\[0\]\.host_node: this host has no node 4095(; allowed: .+)?)"));
}

TEST_F(SpecValidate, RefusesAFileThatIsNoKernel) {
  MachineSpec spec;
  spec.boot.kernel = File("notes.txt");
  EXPECT_EQ(Told(spec),
            "spec: boot.kernel: \"DIR/notes.txt\" is no Linux kernel; allowed: a bzImage, an ELF vmlinux or an arm64 "
            "Image");
  for (const char* kernel : {"vmlinux", "bzImage"}) {
    spec.boot.kernel = File(kernel);
    EXPECT_EQ(Told(spec), "accepted") << kernel;
  }
}

TEST_F(SpecValidate, RefusesAnImageInAnotherFormatThanToldOrCutOff) {
  MachineSpec spec;
  spec.disks = {{.id = "d", .path = File("qcow2.img")}};
  EXPECT_EQ(Told(spec), "spec: disks[0].format: \"raw\", but \"DIR/qcow2.img\" is a qcow2 image; allowed: \"qcow2\"");
  spec.disks = {{.id = "d", .path = File("raw.img"), .format = DiskFormat::kQcow2}};
  EXPECT_EQ(Told(spec), "spec: disks[0].format: \"qcow2\", but \"DIR/raw.img\" is no qcow2 image; allowed: \"raw\"");
  spec.disks = {{.id = "d", .path = File("raw.img"), .size = 512_B}};
  EXPECT_EQ(Told(spec),
            "spec: disks[0].size: \"512B\" would cut the image off; allowed: 0 for its own size, or 4KiB and more");
}

TEST_F(SpecValidate, RefusesASocketPathThatNoAddressHolds) {
  MachineSpec spec;
  std::string path = "/" + std::string(sizeof(sockaddr_un::sun_path) - 1, 's');
  spec.nics = {{.id = "lan", .kind = NicKind::kSocket, .source = path}};
  EXPECT_EQ(Told(spec),
            "spec: nics[0].source: \"" + path.substr(0, 100) + "…\" has 108 bytes; allowed: at most 107 bytes");
  spec.nics[0].source.pop_back();
  EXPECT_EQ(Told(spec), "accepted");
}

// As root every file can be read, so the test takes another user's rights for the check.
TEST_F(SpecValidate, RefusesAFileThatCannotBeReadOrWritten) {
  fs::permissions(directory_, fs::perms::all);
  fs::permissions(File("raw.img"), fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);
  fs::permissions(File("qcow2.img"), fs::perms::none);
  constexpr uid_t kNobody = 65534;
  const uid_t user = geteuid();
  ASSERT_EQ(user == 0 ? seteuid(kNobody) : 0, 0);
  MachineSpec spec;
  spec.disks = {{.id = "d", .path = File("qcow2.img")}};
  std::string unreadable = Told(spec);
  spec.disks = {{.id = "d", .path = File("raw.img"), .clone = false}};
  std::string unwritable = Told(spec);
  spec.disks[0].readonly = true;
  std::string readable = Told(spec);
  ASSERT_EQ(user == 0 ? seteuid(0) : 0, 0);
  EXPECT_EQ(unreadable, "spec: disks[0].path: \"DIR/qcow2.img\" cannot be read: Permission denied");
  EXPECT_EQ(unwritable, "spec: disks[0].path: \"DIR/raw.img\" cannot be written: Permission denied");
  EXPECT_EQ(readable, "accepted");
}

}  // namespace
}  // namespace mayfly
