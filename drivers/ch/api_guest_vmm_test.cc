// The client against the real program with real guests: where KVM works, which `mayfly host` says of itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/image.h>
#include <mayfly/internal/console_log.h>
#include <mayfly/internal/error_of_fixture.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "drivers/ch/api_error.h"
#include "drivers/ch/real_vmm_fixture.h"

namespace mayfly::ch {
namespace {

namespace fs = std::filesystem;
using internal::ErrorOf;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::IsSupersetOf;

constexpr uint64_t kMiB = uint64_t{1} << 20;

Deadline Later() { return Deadline::After(Scaled(seconds(120))); }

// A guest that tells of each device that comes or goes: "UEVENT add block vda".
constexpr const char* kInit = R"sh(#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk virtio_balloon button evdev
echo VMRS_READY 0.0.0.0 > /dev/console
exec uevent sh -c 'echo UEVENT $ACTION $SUBSYSTEM $DEVNAME $DEVPATH > /dev/console'
)sh";

class RealGuest : public RealVmm {
 protected:
  void SetUp() override {
    const char* accelerator = std::getenv("MAYFLY_ACCEL");
    if (accelerator == nullptr || std::string(accelerator) != "kvm") {
      GTEST_SKIP() << "not verified here: run it by mayfly host, or where KVM works with MAYFLY_ACCEL=kvm";
    }
    RealVmm::SetUp();
    if (IsSkipped()) return;
    tiny_ = ImageStore().Find("tiny");
    fs::create_directories(directory_ / "guest");
    std::ofstream(directory_ / "guest/init") << kInit;
    fs::permissions(directory_ / "guest/init", fs::perms::owner_all);
    BuildInitramfsFromDirectory(directory_ / "guest", directory_ / "initramfs", tiny_.initramfs);
    std::ofstream disk(directory_ / "disk");
    fs::resize_file(directory_ / "disk", 4 * kMiB);
    events_.emplace(events_path(), nullptr);
    console_.emplace(console_path(), nullptr);
  }

  fs::path console_path() const { return directory_ / "console"; }

  VmConfig Config() const {
    return {.cpus = CpusConfig{.boot_vcpus = 1, .max_vcpus = 2},
            .memory = MemoryConfig{.size = 192 * kMiB},
            .payload = PayloadConfig{.kernel = tiny_.kernel.string(),
                                     .cmdline = "console=ttyS0 " + tiny_.command_line,
                                     .initramfs = (directory_ / "initramfs").string()},
            .balloon = BalloonConfig{.pci = {.id = "balloon"}},
            .serial = SerialConfig{.file = console_path().string(), .mode = ConsoleMode::kFile},
            .console = ConsoleConfig{}};
  }

  DiskConfig Disk() const {
    return {.pci = {.id = "data"}, .path = (directory_ / "disk").string(), .image_type = ImageType::kRaw};
  }

  void BootGuest() {
    api_->Create(Config(), Soon());
    api_->Boot(Later());
    ASSERT_TRUE(console_->WaitFor("VMRS_READY", Later())) << console_->Tail(20);
  }

  bool GuestSays(const std::string& text) { return console_->WaitFor(text, Later()); }
  bool Event(const std::string& name) { return events_->WaitFor("\"" + name + "\"", Later()); }

  Image tiny_;
  std::optional<internal::ConsoleLog> events_;
  std::optional<internal::ConsoleLog> console_;
};

TEST_F(RealGuest, BootsPausesGoesOnAndRestarts) {
  BootGuest();
  EXPECT_EQ(api_->Info(Soon()).state, VmState::kRunning);
  api_->Pause(Soon());
  EXPECT_EQ(api_->Info(Soon()).state, VmState::kPaused);
  EXPECT_THROW(api_->Pause(Soon()), ApiError) << "it is paused already";
  api_->Resume(Soon());
  api_->Reboot(Later());
  console_.emplace(console_path(), nullptr);  // a reboot begins the file anew
  EXPECT_TRUE(GuestSays("VMRS_READY"));
  api_->Shutdown(Soon());
  EXPECT_EQ(api_->Info(Soon()).state, VmState::kCreated) << "so it says after a shutdown";
  api_->Delete(Soon());
  EXPECT_EQ(ErrorOf<ApiError>([&] { api_->Info(Soon()); }).empty(), false);
  EXPECT_THAT(Events(), IsSupersetOf({"vm/booting", "vm/booted", "vm/paused", "vm/resumed", "vm/rebooted",
                                      "vm/shutdown", "vm/deleted"}));
}

TEST_F(RealGuest, TakesDevicesAndLetsGoOfThem) {
  BootGuest();
  auto device = api_->AddDisk(Disk(), Later());
  ASSERT_TRUE(device);
  EXPECT_EQ(device->id, "data");
  EXPECT_TRUE(GuestSays("UEVENT add block vda")) << console_->Tail(20);
  EXPECT_THAT(api_->ReadCounters(Soon()), Contains(testing::Key("data")));
  api_->ResizeDisk("data", 8 * kMiB, Later());
  EXPECT_TRUE(GuestSays("UEVENT change block vda")) << console_->Tail(20);
  api_->RemoveDevice("data", Later());
  EXPECT_TRUE(Event("device-removed"));
  EXPECT_TRUE(GuestSays("UEVENT remove block vda")) << console_->Tail(20);
}

TEST_F(RealGuest, TakesMoreProcessorsAndABalloon) {
  BootGuest();
  api_->ResizeVm({.desired_vcpus = 2}, Later());
  EXPECT_TRUE(GuestSays("UEVENT add cpu")) << console_->Tail(20);
  EXPECT_THROW(api_->ResizeVm({.desired_vcpus = 3}, Later()), ApiError);
  api_->ResizeVm({.desired_balloon = 16 * kMiB}, Later());
  EXPECT_EQ(api_->Info(Soon()).config.balloon->size, 16 * kMiB);
}

TEST_F(RealGuest, GoesOnFromASnapshotInAnotherVmm) {
  BootGuest();
  fs::path snapshot = directory_ / "snapshot";
  fs::create_directory(snapshot);
  EXPECT_THROW(api_->Snapshot(snapshot, Later()), ApiError) << "it is not paused";
  api_->Pause(Soon());
  api_->Snapshot(snapshot, Later());
  EXPECT_TRUE(fs::exists(snapshot / "state.json"));
  vmm_->Kill();
  StartVmm("second");
  events_.emplace(events_path(), nullptr);
  console_->BeginBoot();  // its config names the same file
  api_->Restore({.source_url = "file://" + snapshot.string(), .resume = true}, Later());
  EXPECT_EQ(api_->Info(Soon()).state, VmState::kRunning);
  ASSERT_TRUE(api_->AddDisk(Disk(), Later()));
  EXPECT_TRUE(GuestSays("UEVENT add block vda")) << console_->Tail(20);
}

TEST_F(RealGuest, KilledIsToldAtOnce) {
  BootGuest();
  vmm_->Signal(SIGKILL);
  EXPECT_THROW(api_->Info(Later()), VmmDied);
}

}  // namespace
}  // namespace mayfly::ch
