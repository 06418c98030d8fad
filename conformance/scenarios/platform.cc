#include <fmt/format.h>
#include <mayfly/internal/files.h>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kPlatformRosetta, "an arm64 guest runs x86_64 programs") {
  Vm& vm = Boot({.rosetta = true});
  EXPECT_THAT(vm.Exec("uname -m"), Prints("aarch64\n"));
  EXPECT_THAT(vm.Exec("cat /proc/sys/fs/binfmt_misc/rosetta"), Prints(HasSubstr("enabled")));
}

SCENARIO_FOR(kPlatformMacosGuest, "macOS runs as a guest") { RequireOffered(); }

SCENARIO_FOR(kPlatformUefi, "the guest was booted by UEFI firmware") {
  Vm& vm = Boot({.image = "debian", .boot = {.firmware = "uefi"}});
  EXPECT_TRUE(vm.Stat("/sys/firmware/efi"));
}

SCENARIO_FOR(kPlatformTpm, "the guest has a TPM 2.0") {
  Vm& vm = Boot({.tpm = Tpm{}});
  vm.WaitForFile("/sys/class/tpm/tpm0", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("cat /sys/class/tpm/tpm0/tpm_version_major"), Prints("2\n"));
}

// Generic kernels have drivers that Debian's cloud kernels lack.
constexpr const char* kGeneric = "tiny-generic";

SCENARIO_FOR(kPlatformWatchdog, "a guest that feeds its watchdog no more is reset") {
  Vm& vm = Boot({.image = kGeneric, .watchdog = Watchdog{}});
  std::string before = Out(vm, "cat /proc/sys/kernel/random/boot_id");
  Out(vm, "modprobe i6300esb heartbeat=2");
  GuestProcess feeder = vm.Start("exec 3>/dev/watchdog; echo fed >&3; echo armed; sleep 600");
  feeder.WaitForOutput("armed", Scaled(kSoon));
  EXPECT_EQ(AwaitState(vm, MachineState::kRunning).state, MachineState::kRunning) << "it was not reset";
  EXPECT_EQ(AwaitState(vm, MachineState::kReady).state, MachineState::kReady);
  EXPECT_THAT(vm.Exec("cat /proc/sys/kernel/random/boot_id"), Prints(Not(before)));
}

SCENARIO_FOR(kPlatformWatchdog, "a guest that feeds its watchdog goes on") {
  Vm& vm = Boot({.image = kGeneric, .watchdog = Watchdog{}});
  Out(vm, "modprobe i6300esb heartbeat=5");  // a guest of a busy host may not run for a while
  size_t from = vm.machine().timeline().size();
  Out(vm, "watchdog -T 5 -t 500ms /dev/watchdog");
  auto reset = [](const Event& event) { return event.name == "RESET"; };
  EXPECT_FALSE(vm.machine().timeline().WaitFor(reset, Deadline::After(8s), from));
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

SCENARIO_FOR(kPlatformGraphics, "the host sees what the guest draws") {
  Vm& vm = Boot({.graphics = Graphics{}});
  auto png = Directory() / "screen.png";
  vm.machine().Screenshot(png);
  EXPECT_THAT(internal::ReadWholeFile(png, 64 << 20), StartsWith("\x89PNG"));
}

SCENARIO_FOR(kPlatformAudio, "the guest has a sound card") {
  Vm& vm = Boot({.image = kGeneric, .audio = true});
  EXPECT_THAT(vm.Exec("cat /proc/asound/cards"), Prints(HasSubstr("[")));
}

SCENARIO_FOR(kPlatformUsb, "the guest has a USB controller") {
  Vm& vm = Boot({.usb = true});
  EXPECT_THAT(vm.Exec("ls /sys/bus/usb/devices"), Prints(HasSubstr("usb1")));
}

SCENARIO_FOR(kPlatformGenerationId, "the guest's driver has the device that tells it of a copy") {
  Vm& vm = Boot({.image = kGeneric, .generation_id = true});
  EXPECT_THAT(vm.Exec("modprobe vmgenid; ls /sys/bus/acpi/drivers/vmgenid"), Prints(HasSubstr(":00")));
}

REFUSAL_FOR(kPlatformGenerationId, "a guest without it has no such device") {
  Vm& vm = Boot({.image = kGeneric, .machine = MachineKind::kPc});
  EXPECT_THAT(vm.Exec("modprobe vmgenid; ls /sys/bus/acpi/drivers/vmgenid"), Prints(Not(HasSubstr(":00"))));
}

SCENARIO_FOR(kPlatformNested, "the guest has a /dev/kvm") {
  Vm& vm = Boot({.image = kGeneric, .nested_virtualization = true});
  Out(vm, "modprobe kvm_amd || modprobe kvm_intel");
  EXPECT_THAT(vm.Exec("grep -c -E '\\b(svm|vmx)\\b' /proc/cpuinfo"), Prints("1\n"));
  EXPECT_TRUE(vm.Stat("/dev/kvm"));
}

}  // namespace
}  // namespace mayfly::conformance
