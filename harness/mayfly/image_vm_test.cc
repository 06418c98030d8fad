// The images of the recipes, booted.
#include <mayfly/image.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/vm.h>

#include <chrono>
#include <filesystem>
#include <string>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::TestDirectory;
using internal::WriteWholeFile;
using literals::operator""_MiB;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

TEST(ImageTiny, HasAnInitramfsOfAtMostSixMebibytes) {
  EXPECT_LE(fs::file_size(ImageStore().Find("tiny").initramfs), (6_MiB).count());
}

TEST(ImageTiny, UsesAtMostFortyMebibytesOfMemoryWhenReady) {
  Vm vm = Vm::Boot({.memory = 128_MiB});
  std::string used = vm.Exec("free -m | awk '/^Mem/ {print $3}'").OrThrow().out;
  EXPECT_LE(std::stoi(used), 40) << used;
}

TEST(ImageTiny, LoadsModulesWhenTheKernelOrModprobeAsks) {
  Vm vm = Vm::Boot({.memory = 128_MiB});
  vm.Exec("modprobe softdog && grep -q ^softdog /proc/modules").OrThrow();
  vm.Exec(
        "mkdir -p /mnt/a /mnt/b /mnt/w /mnt/o && mount -t tmpfs t /mnt && mkdir /mnt/a /mnt/b /mnt/w /mnt/o && "
        "mount -t overlay o -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/w /mnt/o")
      .OrThrow();
}

TEST(ImageTinyDisk, KeepsItsRootOverAPowerCutAndStartsEachVmFromACopy) {
  MachineSpec spec{.memory = 128_MiB, .image = "tiny-disk"};
  {
    Vm vm = Vm::Boot(spec);
    EXPECT_THAT(vm.Exec("grep ' / ' /proc/mounts").out, HasSubstr("ext4 rw"));
    vm.Exec("echo kept > /root/file && sync").OrThrow();
    vm.Kill();
    vm.Boot();
    EXPECT_EQ(vm.ReadFile("/root/file"), "kept\n");
  }
  EXPECT_FALSE(Vm::Boot(spec).Stat("/root/file"));
}

TEST(ImageTinyDisk, HasModulesForFileSystems) {
  Vm vm = Vm::Boot({.memory = 128_MiB, .image = "tiny-disk"});
  vm.Exec("modprobe xfs && modprobe btrfs && grep -q xfs /proc/filesystems && grep -q btrfs /proc/filesystems")
      .OrThrow();
}

TEST(BringYourOwn, FilesAreAddedToTinyAndReplaceItsOwn) {
  TestDirectory directory;
  fs::create_directories(directory / "in/etc");
  WriteWholeFile(directory / "in/hello", "#!/bin/sh\necho hello\n", 0755);
  WriteWholeFile(directory / "in/etc/os-release", "ID=mine\n");
  BuildInitramfsFromDirectory(directory / "in", directory / "out.cpio", ImageStore().Find("tiny").initramfs);
  Vm vm = Vm::Boot({.memory = 128_MiB, .boot = {.initramfs = directory / "out.cpio"}});
  EXPECT_EQ(vm.Exec("/hello").out, "hello\n");
  EXPECT_EQ(vm.ReadFile("/etc/os-release"), "ID=mine\n");
}

TEST(BringYourOwn, ADirectoryBecomesADisk) {
  TestDirectory directory;
  fs::create_directories(directory / "in/deep/er");
  WriteWholeFile(directory / "in/deep/er/file", "content\n", 0640);
  fs::create_symlink("deep/er", directory / "in/link");
  BuildDiskFromDirectory(directory / "in", 64_MiB, directory / "disk.img");
  MachineSpec spec{.memory = 128_MiB, .disks = {{.id = "data", .path = directory / "disk.img"}}};
  Vm vm = Vm::Boot(spec);
  vm.Exec("mount /dev/vda /mnt").OrThrow();
  EXPECT_EQ(vm.ReadFile("/mnt/link/file"), "content\n");
  EXPECT_EQ(vm.Stat("/mnt/deep/er/file")->mode, 0640U);
  EXPECT_EQ(vm.Stat("/mnt/deep/er/file")->uid, 0U);
}

TEST(BringYourOwn, AnElfFileWithoutAPvhEntryIsRefusedBeforeAnythingStarts) {
  TestDirectory directory;
  fs::copy_file("/proc/self/exe", directory / "kernel");
  try {
    Vm::Create({.boot = {.kernel = directory / "kernel"}});
    FAIL() << "expected BadSpec";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.text().summary, StartsWith((directory / "kernel").native() + " is no kernel"));
  }
}

}  // namespace
}  // namespace mayfly
