// Code that makes, mounts, fills and grows a file system needs root and a disk to spoil. Here it has both.
#include <mayfly/mayfly.h>

#include <cerrno>

using mayfly::ExitsWith;
using mayfly::Prints;
using mayfly::PrintsError;
using mayfly::Succeeds;
using mayfly::literals::operator""_MiB;
using std::chrono::seconds;
using testing::HasSubstr;

class Volume : public mayfly::VmFixture {
 protected:
  // debian, because its e2fsprogs are what the program calls. The guest finds a disk by its id.
  mayfly::MachineSpec Spec() const override {
    return {.memory = 512_MiB, .image = "debian", .disks = {{.id = "data", .size = 32_MiB}}};
  }
  const std::string disk_ = "/dev/disk/by-id/virtio-data";

  void Prepare(mayfly::Vm& vm) override {
    vm.Upload(VOLUME_BINARY, "/usr/local/bin/volume");
    vm.WaitForFile(disk_, seconds(60));  // udev has seen it
    vm.Exec("volume create " + disk_).OrThrow();
  }

  // 4 MiB that differ from file to file.
  static std::string Content(int number) { return std::string((4_MiB).count(), static_cast<char>('a' + number)); }

  mayfly::ExecResult Put(int number) {
    return vm().Exec("volume put part" + std::to_string(number), {.in = Content(number)});
  }

  // Stores files until one is refused, and returns how many there are.
  int Fill() {
    int stored = 0;
    mayfly::ExecResult result;
    while ((result = Put(stored)).ok()) ++stored;
    EXPECT_THAT(result, AllOf(ExitsWith(ENOSPC), PrintsError("volume: cannot store: No space left on device\n")));
    return stored;
  }

  void ExpectFiles(int count) {
    EXPECT_THAT(vm().Exec("ls -A /srv/volume | grep -c part"), Prints(std::to_string(count) + "\n"));
    for (int i = 0; i < count; ++i) {
      EXPECT_TRUE(vm().ReadFile("/srv/volume/part" + std::to_string(i)) == Content(i)) << "part" << i << " is damaged";
    }
  }
};

TEST_F(Volume, RefusesWhatDoesNotFitAndKeepsTheRest) {
  int stored = Fill();
  EXPECT_GE(stored, 5);
  ExpectFiles(stored);  // nothing of the one that was refused is left
}

TEST_F(Volume, GrowsWhileItIsFull) {
  int stored = Fill();
  vm().machine().ResizeDisk("data", 64_MiB);
  vm().WaitUntilSucceeds("test $(blockdev --getsize64 " + disk_ + ") = 67108864", seconds(30));
  EXPECT_THAT(Put(stored), ExitsWith(ENOSPC));  // the disk is larger, the file system is not yet

  EXPECT_THAT(vm().Exec("volume grow " + disk_), Succeeds());
  EXPECT_THAT(Put(stored), Succeeds());
  ExpectFiles(stored + 1);
  EXPECT_THAT(vm().Exec("umount /srv/volume && e2fsck -fn " + disk_), Succeeds());
}

TEST_F(Volume, IsForRootOnly) {
  EXPECT_THAT(vm().Exec("volume put part0", {.user = "nobody"}),
              AllOf(ExitsWith(EACCES), PrintsError(HasSubstr("Permission denied"))));
}
