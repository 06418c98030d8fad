#include <fmt/format.h>
#include <mayfly/internal/files.h>

#include <cstdint>
#include <cstring>
#include <filesystem>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kPlatformRosetta, "an arm64 guest runs x86_64 programs") {
  Vm& vm = Boot({.rosetta = true});
  EXPECT_THAT(vm.Exec("uname -m"), Prints("aarch64\n"));
  EXPECT_THAT(vm.Exec("cat /proc/sys/fs/binfmt_misc/rosetta"), Prints(HasSubstr("enabled")));
}

SCENARIO_FOR(kPlatformMacosGuest, "macOS runs as a guest") { RequireOffered(); }

// Generic kernels have drivers that Debian's cloud kernels lack.
constexpr const char* kGeneric = "tiny-generic";

constexpr const char* kMountVariables = "modprobe efivarfs; mount -t efivarfs none /sys/firmware/efi/efivars";
// A variable of a vendor that is made up here; four bytes of attributes come first.
constexpr const char* kVariable = "/sys/firmware/efi/efivars/MayflyColour-6d617966-6c79-4c69-a573-2d6c69766573";

SCENARIO_FOR(kPlatformUefi,
             "firmware boots the guest, and its variables outlast reboot and power cut in this VM only") {
  MachineSpec spec{.image = kGeneric, .boot = {.firmware = "uefi"}};
  Vm& vm = Boot(spec);
  EXPECT_THAT(vm.Exec("cat /sys/firmware/efi/fw_platform_size"), Prints("64\n"));
  Out(vm, kMountVariables);
  EXPECT_FALSE(vm.Stat(kVariable));
  // Attributes: kept without power, for the firmware and for the system that runs.
  Out(vm, fmt::format("printf '\\007\\000\\000\\000blue' > {}", kVariable));
  vm.Reboot();
  Out(vm, kMountVariables);
  EXPECT_THAT(vm.Exec(fmt::format("tail -c 4 {}", kVariable)), Prints("blue"));
  vm.Kill();
  vm.Boot();
  Out(vm, kMountVariables);
  EXPECT_THAT(vm.Exec(fmt::format("tail -c 4 {}", kVariable)), Prints("blue"));
  Vm& other = Boot(spec);
  Out(other, kMountVariables);
  EXPECT_FALSE(other.Stat(kVariable));
}

REFUSAL_FOR(kPlatformUefi, "without firmware the guest finds none, and a build that is not there is refused") {
  EXPECT_FALSE(Boot({.machine = MachineKind::kPc}).Stat("/sys/firmware/efi"));
  EXPECT_THROW(Boot({.image = kGeneric, .boot = {.firmware = Directory() / "none.fd"}}), BadSpec);
}

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
  auto screen = [&] {
    vm.machine().Screenshot(Directory() / "screen.png");
    return internal::ReadWholeFile(Directory() / "screen.png", 64 << 20);
  };
  // The screen shows text, which is in memory at 0xb8000: a letter and its colours, 2000 times. Letters of the colour
  // that is behind them, and so the cursor, are not seen.
  auto fill = [&](const std::string& both_colours) {
    Out(vm, fmt::format("head -c 4000 /dev/zero | tr '\\0' '\\{}' | dd of=/dev/mem bs=4000 count=1 iflag=fullblock "
                        "seek=753664 oflag=seek_bytes conv=notrunc 2>/dev/null",
                        both_colours));
  };
  const char* red = "104";
  const char* blue = "021";
  fill(red);
  std::string first = screen();
  EXPECT_THAT(first, StartsWith("\x89PNG"));
  EXPECT_TRUE(screen() == first) << "the guest drew nothing new";
  fill(blue);
  EXPECT_FALSE(screen() == first) << "the guest drew something else";
  fill(red);
  EXPECT_TRUE(screen() == first) << "the guest drew the same as at first";
}

REFUSAL_FOR(kPlatformGraphics, "a guest without a display has no picture") {
  Vm& vm = Boot();
  EXPECT_THROW(vm.machine().Screenshot(Directory() / "screen.png"), Error);
  EXPECT_FALSE(std::filesystem::exists(Directory() / "screen.png"));
}

// How often the samples of a channel go from below 0 to above it, in the part of a recording that is not silent.
struct Tone {
  double seconds = 0;
  int periods = 0;
};
Tone ToneOf(const std::string& wav) {
  constexpr size_t kHeader = 44;
  constexpr size_t kFrame = 4;  // two channels of 16 bits
  constexpr int kLoud = 1000;
  Tone tone;
  size_t first = 0;
  size_t last = 0;
  bool below = false;
  for (size_t at = kHeader; at + kFrame <= wav.size(); at += kFrame) {
    int16_t sample = 0;
    std::memcpy(&sample, &wav[at], sizeof sample);
    if (sample < -kLoud) below = true;
    if (sample < kLoud) continue;
    if (below) ++tone.periods;
    below = false;
    last = at;
    if (first == 0) first = at;
  }
  uint32_t rate = 0;
  if (wav.size() > kHeader) std::memcpy(&rate, &wav[24], sizeof rate);
  if (rate > 0) tone.seconds = static_cast<double>(last - first) / kFrame / rate;
  return tone;
}

SCENARIO_FOR(kPlatformAudio, "the tone that the guest plays is what the host records") {
  Vm& vm = Boot({.image = kGeneric, .audio = true});
  Out(vm, "modprobe snd-ens1370 && modprobe snd-pcm-oss");
  vm.WaitForFile("/dev/dsp", Scaled(kSoon));
  constexpr int kRate = 8000;  // what /dev/dsp takes when it is told nothing: 8 bits, 8000 times a second
  constexpr int kPeriod = 20;
  std::string second;
  for (int i = 0; i < kRate; ++i) second += i % kPeriod < kPeriod / 2 ? '\x20' : '\xe0';
  vm.WriteFile("/tone", second);
  Out(vm, "cat /tone > /dev/dsp");
  EXPECT_TRUE(vm.Stop());
  Tone tone = ToneOf(internal::ReadWholeFile(vm.machine().audio_path(), 64 << 20));
  EXPECT_GE(tone.seconds, 0.9);  // more where a busy host made the guest pause
  constexpr int kPlayed = kRate / kPeriod;
  EXPECT_NEAR(tone.periods, kPlayed, 20);
}

REFUSAL_FOR(kPlatformAudio, "a guest without a sound device has none") {
  Vm& vm = Boot({.image = kGeneric});
  Out(vm, "modprobe snd-ens1370; modprobe snd-pcm-oss");
  EXPECT_FALSE(vm.Stat("/dev/dsp"));
}

SCENARIO_FOR(kPlatformUsb, "the guest has a USB disk, and one that is plugged and pulled while it runs") {
  Vm& vm = Boot({.image = kGeneric, .disks = {{.id = "fixed", .size = 16_MiB, .usb = true}}, .usb = true});
  Out(vm, "modprobe xhci-pci && modprobe usb-storage && modprobe sd_mod");
  vm.WaitForFile("/sys/block/sda", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("cat /sys/block/sda/size; readlink -f /sys/block/sda"),
              Prints(AllOf(StartsWith("32768\n"), HasSubstr("/usb"))));
  vm.machine().AddDisk({.id = "stick", .size = 32_MiB, .usb = true});
  vm.WaitForFile("/sys/block/sdb", Scaled(kSoon));
  Out(vm, "echo blue | dd of=/dev/sdb conv=fsync,notrunc 2>/dev/null");
  EXPECT_THAT(vm.Exec("cat /sys/block/sdb/size; head -n 1 /dev/sdb"), Prints("65536\nblue\n"));
  vm.machine().RemoveDevice("stick");
  EXPECT_THAT([&] { return vm.Stat("/sys/block/sdb").has_value(); }, Eventually(testing::IsFalse(), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec("dd if=/dev/sda of=/dev/null bs=1M count=1 2>/dev/null"), Succeeds());
}

REFUSAL_FOR(kPlatformUsb, "a USB disk without a controller is refused") {
  EXPECT_THROW(Boot({.disks = {{.id = "stick", .size = 16_MiB, .usb = true}}}), BadSpec);
  Vm& vm = Boot({.machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().AddDisk({.id = "stick", .size = 16_MiB, .usb = true}), BadSpec);
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
