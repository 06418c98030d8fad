// Frozen VMs: saved with all that they need, moved, and brought back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/snapshot.h>
#include <mayfly/vm.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using literals::operator""_MiB;
using testing::HasSubstr;

std::string Out(Vm& vm, const std::string& command) { return vm.Exec(command).OrThrow().out; }

class Frozen : public testing::Test {
 protected:
  // A fork with a disk that lies on its template's and one that is only read.
  Vm Guest() {
    std::ofstream(directory_ / "media.raw") << "read only" << std::string(1 << 20, '\0');
    MachineSpec spec{.memory = 128_MiB};
    spec.disks = {{.id = "data", .size = 16_MiB}, {.id = "media", .path = directory_ / "media.raw", .readonly = true}};
    spec.nics = {{.id = "nic", .kind = NicKind::kNone}};
    return Vm::Fork(spec, {.identity = "on-disk", .run = [](Vm& vm) {
                             vm.Exec("echo template > /dev/vda; sync").OrThrow();
                             return true;
                           }});
  }
  internal::TestDirectory directory_;
};

TEST_F(Frozen, HoldsAllOfTheVmAndGoesOnElsewhere) {
  std::string name, mac;
  {
    Vm vm = Guest();
    name = vm.name();
    mac = Out(vm, "cat /sys/class/net/eth0/address");
    vm.Exec("echo remembered > /tmp/note; echo written | dd of=/dev/vda bs=512 seek=1; sync").OrThrow();
    vm.Freeze(directory_ / "frozen");
    EXPECT_EQ(Out(vm, "cat /tmp/note"), "remembered\n") << "it goes on";
    EXPECT_THROW(vm.Freeze(directory_ / "frozen"), BadSpec);
  }
  fs::rename(directory_ / "frozen", directory_ / "moved");
  fs::remove(directory_ / "media.raw");
  MachineSpec spec = SpecOfCopy(ReadSnapshot(directory_ / "moved"), "");
  EXPECT_EQ(spec.boot.kernel, directory_ / "moved/kernel");
  EXPECT_EQ(spec.boot.initramfs, directory_ / "moved/initramfs");
  for (const Disk& disk : spec.disks) EXPECT_THAT(disk.path, testing::StartsWith((directory_ / "moved").native()));

  Vm vm = Vm::Resume(directory_ / "moved");
  EXPECT_EQ(vm.name(), name);
  EXPECT_EQ(Out(vm, "cat /tmp/note; hostname"), "remembered\n" + name + "\n");
  EXPECT_EQ(Out(vm, "cat /sys/class/net/eth0/address"), mac);
  EXPECT_EQ(Out(vm, "head -c 8 /dev/vda; dd if=/dev/vda bs=512 skip=1 count=1 2>/dev/null | head -c 7"),
            "template"
            "written");
  EXPECT_EQ(Out(vm, "head -c 9 /dev/vdb"), "read only");
  EXPECT_THAT(vm.console(), HasSubstr("VMRS_READY")) << "its console is there from the beginning";
  vm.Reboot();
  EXPECT_EQ(Out(vm, "ls /tmp"), "") << "it boots from its own kernel";
  Vm again = Vm::Resume(directory_ / "moved");
  EXPECT_EQ(Out(again, "cat /tmp/note"), "remembered\n");
}

// What lies on the template's disk is in the frozen disk itself.
TEST_F(Frozen, HasDisksWithoutABackingImage) {
  Vm vm = Guest();
  vm.Freeze(directory_ / "frozen");
  for (const SnapshotDisk& disk : ReadSnapshot(directory_ / "frozen").disks) {
    if (disk.format != DiskFormat::kQcow2) continue;
    std::ifstream file(directory_ / "frozen" / disk.file, std::ios::binary);
    std::string header(16, '\1');
    file.read(header.data(), static_cast<std::streamsize>(header.size()));
    EXPECT_EQ(header.substr(8), std::string(8, '\0')) << disk.id << ": the offset of its backing image's name";
  }
}

TEST_F(Frozen, IsRefusedWhenItsMemoryIsTruncated) {
  Vm vm = Guest();
  vm.Freeze(directory_ / "frozen");
  fs::resize_file(directory_ / "frozen/state", fs::file_size(directory_ / "frozen/state") - 4096);
  try {
    Vm::Resume(directory_ / "frozen");
    FAIL() << "it is truncated";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("is damaged: state has another size"));
  }
}

TEST_F(Frozen, LeavesNothingWhenTheVmCannotBeSaved) {
  Vm vm = Guest();
  vm.Kill();
  EXPECT_THROW(vm.Freeze(directory_ / "frozen"), GuestFailed);
  EXPECT_FALSE(fs::exists(directory_ / "frozen"));
  EXPECT_FALSE(fs::exists(directory_ / "frozen.unfinished"));
}

}  // namespace
}  // namespace mayfly
