#include <fmt/format.h>
#include <mayfly/internal/files.h>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

namespace fs = std::filesystem;

// A raw image that begins with a line of text.
fs::path Image(const fs::path& path, std::string_view line, Bytes size) {
  internal::WriteWholeFile(path, std::string(line) + "\n");
  fs::resize_file(path, size.count());
  return path;
}

constexpr const char* kFirstLine = "head -n 1 /dev/vda";
std::string Write(const std::string& word, const std::string& disk = "vda") {
  return fmt::format("echo {} | dd of=/dev/{} conv=fsync,notrunc 2>/dev/null", word, disk);
}

SCENARIO_FOR(kStorageRootDisk, "the guest runs from its root disk, and finds there what it synced") {
  Vm& vm = Boot({.image = "tiny-disk"});
  EXPECT_THAT(vm.Exec("awk '$2 == \"/\" {print $3}' /proc/mounts"), Prints(HasSubstr("ext4")));
  Out(vm, "echo blue > /etc/colour");
  vm.Sync();
  vm.Kill();
  vm.Boot();
  EXPECT_THAT(vm.Exec("cat /etc/colour"), Prints("blue\n"));
}

SCENARIO_FOR(kStorageRootDisk, "no VM sees what another wrote to the same image") {
  Vm& first = Boot({.image = "tiny-disk"});
  Out(first, "echo blue > /etc/colour");
  first.Sync();
  EXPECT_FALSE(Boot({.image = "tiny-disk"}).Stat("/etc/colour"));
}

SCENARIO_FOR(kStorageSeedIso, "the guest reads its seed from the volume CIDATA") {
  Vm& vm = Boot(
      {.name = "kv", .seed = Seed{.user_data = "#cloud-config\nhostname: kv\n", .network_config = "version: 2\n"}});
  EXPECT_THAT(vm.Exec("dd if=/dev/vda bs=1 skip=32808 count=6 2>/dev/null"), Prints("CIDATA"));
  Out(vm, "mkdir -p /seed && mount -t iso9660 -o ro /dev/vda /seed");
  EXPECT_EQ(vm.ReadFile("/seed/user-data"), "#cloud-config\nhostname: kv\n");
  EXPECT_EQ(vm.ReadFile("/seed/meta-data"), "instance-id: kv\nlocal-hostname: kv\n");
  EXPECT_EQ(vm.ReadFile("/seed/network-config"), "version: 2\n");
}

REFUSAL_FOR(kStorageSeedIso, "the guest cannot change its seed") {
  Vm& vm = Boot({.seed = Seed{.user_data = "#cloud-config\n"}});
  EXPECT_THAT(vm.Exec("cat /sys/block/vda/ro"), Prints("1\n"));
  EXPECT_THAT(vm.Exec("echo x | dd of=/dev/vda conv=fsync,notrunc"), Not(Succeeds()));
}

SCENARIO_FOR(kStorageDataDisk, "the guest has its disks in order, with their ids and sizes, and keeps what it wrote") {
  Vm& vm = Boot({.disks = {{.id = "first", .size = 16_MiB}, {.id = "second", .size = 32_MiB}}});
  EXPECT_THAT(vm.Exec("for d in vda vdb; do cat /sys/block/$d/serial; echo \" $(cat /sys/block/$d/size)\"; done"),
              Prints("first 32768\nsecond 65536\n"));
  Out(vm, Write("blue"));
  vm.Kill();
  vm.Boot();
  EXPECT_THAT(vm.Exec(kFirstLine), Prints("blue\n"));
}

REFUSAL_FOR(kStorageDataDisk, "the guest cannot write to a read-only disk") {
  Vm& vm = Boot({.disks = {{.id = "ro", .size = 4_MiB, .readonly = true}}});
  EXPECT_THAT(vm.Exec("cat /sys/block/vda/ro"), Prints("1\n"));
  EXPECT_THAT(vm.Exec("echo x | dd of=/dev/vda conv=fsync,notrunc"), Not(Succeeds()));
}

REFUSAL_FOR(kStorageDataDisk, "an image that is not there and an id that is there twice are refused") {
  EXPECT_THROW(Boot({.disks = {{.id = "data", .path = Directory() / "none.raw"}}}), BadSpec);
  EXPECT_THROW(Boot({.disks = {{.id = "data", .size = 4_MiB}, {.id = "data", .size = 4_MiB}}}), BadSpec);
}

SCENARIO_FOR(kStorageHotplug, "the guest writes to a disk that was added and keeps it over a power cut") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  vm.machine().AddDisk({.id = "hot", .size = 16_MiB});
  vm.WaitForFile("/sys/block/vda", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("cat /sys/block/vda/serial /sys/block/vda/size"), Prints("hot32768\n"));
  Out(vm, Write("blue"));
  vm.Kill();
  vm.Boot();
  EXPECT_THAT(vm.Exec(kFirstLine), Prints("blue\n"));
}

SCENARIO_FOR(kStorageHotplug, "a disk that is removed is gone from the guest") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  vm.machine().AddDisk({.id = "hot", .size = 16_MiB});
  vm.WaitForFile("/sys/block/vda", Scaled(kSoon));
  vm.machine().RemoveDevice("hot");
  EXPECT_FALSE(vm.Stat("/sys/block/vda"));
}

REFUSAL_FOR(kStorageHotplug, "an id that is taken and an image that is not there are refused") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 4_MiB}}, .machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().AddDisk({.id = "data", .size = 4_MiB}), BadSpec);
  EXPECT_THROW(vm.machine().AddDisk({.id = "other", .path = Directory() / "none.raw"}), Error);
  EXPECT_THAT(vm.Exec("ls /sys/block | grep -c vd"), Prints("1\n"));
}

SCENARIO_FOR(kStorageResize, "the guest sees a disk grow and writes to its new end") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  EXPECT_THAT(vm.Exec("echo x | dd of=/dev/vda bs=1M seek=31 conv=fsync,notrunc"), Not(Succeeds()));
  vm.machine().ResizeDisk("data", 32_MiB);
  EXPECT_THAT([&] { return Number(vm, "cat /sys/block/vda/size"); }, Eventually(testing::Eq(65536), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec("echo x | dd of=/dev/vda bs=1M seek=31 conv=fsync,notrunc"), Succeeds());
}

REFUSAL_FOR(kStorageResize, "to shrink a disk and to resize an unknown one are refused") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  EXPECT_THROW(vm.machine().ResizeDisk("data", 8_MiB), BadSpec);
  EXPECT_THROW(vm.machine().ResizeDisk("other", 64_MiB), BadSpec);
  EXPECT_THAT(vm.Exec("cat /sys/block/vda/size"), Prints("32768\n"));
}

SCENARIO_FOR(kStorageCowClone, "what the guest writes to its clone never reaches the base") {
  fs::path base = Image(Directory() / "base.raw", "original", 4_MiB);
  MachineSpec spec{.disks = {{.id = "mine", .path = base, .size = 8_MiB}}};
  Vm& vm = Boot(spec);
  EXPECT_THAT(vm.Exec("head -n 1 /dev/vda; cat /sys/block/vda/size"), Prints("original\n16384\n"));
  Out(vm, Write("changed"));
  EXPECT_THAT(vm.Exec(kFirstLine), Prints("changed\n"));
  EXPECT_THAT(Boot(spec).Exec(kFirstLine), Prints("original\n"));
  vm.Kill();
  EXPECT_THAT(internal::ReadWholeFile(base, 8 << 20), StartsWith("original\n"));
  EXPECT_EQ(fs::file_size(base), (4_MiB).count());
}

SCENARIO_FOR(kStorageCowClone, "without a clone the guest writes to the image itself, and no other VM may meanwhile") {
  fs::path image = Image(Directory() / "image.raw", "original", 4_MiB);
  MachineSpec spec{.disks = {{.id = "shared", .path = image, .clone = false}}};
  Vm& vm = Boot(spec);
  Out(vm, Write("changed"));
  EXPECT_THAT(internal::ReadWholeFile(image, 8 << 20), StartsWith("changed\n"));
  EXPECT_THROW(Boot(spec), HostLacks);
  EXPECT_THAT(vm.Exec(kFirstLine), Prints("changed\n"));
}

SCENARIO_FOR(kStorageCache, "the guest sees whether its writes are cached") {
  Vm& vm = Boot({.disks = {{.id = "back", .size = 4_MiB, .cache = DiskCache::kWriteback},
                           {.id = "through", .size = 4_MiB, .cache = DiskCache::kWritethrough}}});
  EXPECT_THAT(vm.Exec("cat /sys/block/vda/queue/write_cache /sys/block/vdb/queue/write_cache"),
              Prints("write back\nwrite through\n"));
}

SCENARIO_FOR(kStorageRateLimit,
             "a limited disk takes the time of its limit, and an unlimited one less in the same run") {
  Vm& vm = Boot({.disks = {{.id = "slow", .size = 16_MiB, .limit = {.operations_per_second = 20}},
                           {.id = "free", .size = 16_MiB}}});
  auto read_sixty = [&](const char* disk) {
    std::string command = fmt::format("dd if=/dev/{} of=/dev/null bs=4096 count=60 iflag=direct", disk);
    return vm.Exec(command).OrThrow().took;
  };
  Duration slow = read_sixty("vda");
  EXPECT_GT(slow, 1500ms) << "60 operations at 20 a second, of which a second's worth may come at once";
  EXPECT_LT(read_sixty("vdb"), slow);
  try {
    vm.machine().SetRateLimit("slow", {.operations_per_second = 100000});
  } catch (const Unsupported&) {
    return;  // it is fixed once the machine is made
  }
  EXPECT_LT(read_sixty("vda"), slow);
}

REFUSAL_FOR(kStorageRateLimit, "an unknown disk is refused") {
  Vm& vm = Boot({.disks = {{.id = "slow", .size = 16_MiB, .limit = {.operations_per_second = 20}}}});
  EXPECT_THROW(vm.machine().SetRateLimit("other", {.operations_per_second = 1}), Error);
}

SCENARIO_FOR(kStoragePmem, "the guest's persistent memory is a file of the host, and what it synced is there") {
  fs::path file = Image(Directory() / "pmem.raw", "original", 16_MiB);
  Vm& vm = Boot({.image = "tiny-generic", .pmem = {{.id = "pmem", .path = file}}});
  Out(vm, "modprobe virtio_pmem && modprobe nd_pmem");
  vm.WaitForFile("/dev/pmem0", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("head -n 1 /dev/pmem0; cat /sys/block/pmem0/size"), Prints("original\n32768\n"));
  Out(vm, Write("changed", "pmem0"));
  vm.Kill();
  EXPECT_THAT(internal::ReadWholeFile(file, 32 << 20), StartsWith("changed\n"));
}

SCENARIO_FOR(kStoragePmem, "where its writes are discarded the file never changes") {
  fs::path file = Image(Directory() / "pmem.raw", "original", 16_MiB);
  Vm& vm = Boot({.image = "tiny-generic", .pmem = {{.id = "pmem", .path = file, .discard_writes = true}}});
  Out(vm, "modprobe virtio_pmem && modprobe nd_pmem");
  vm.WaitForFile("/dev/pmem0", Scaled(kSoon));
  Out(vm, Write("changed", "pmem0"));
  EXPECT_THAT(vm.Exec("head -n 1 /dev/pmem0"), Prints("changed\n"));
  EXPECT_THAT(internal::ReadWholeFile(file, 32 << 20), StartsWith("original\n"));
}

REFUSAL_FOR(kStoragePmem, "a file that is not there is refused") {
  EXPECT_THROW(Boot({.pmem = {{.id = "pmem", .path = Directory() / "none"}}}), BadSpec);
}

}  // namespace
}  // namespace mayfly::conformance
