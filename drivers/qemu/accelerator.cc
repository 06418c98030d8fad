#include "drivers/qemu/accelerator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <system_error>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "drivers/qemu/host_facts.h"
#include "drivers/qemu/machine_type.h"

namespace mayfly::internal {
namespace {

using std::chrono::milliseconds;

constexpr Duration kCanaryAllowance = std::chrono::seconds(2);
constexpr std::string_view kUsable = "usable";

// Empty when /dev/kvm can be opened, else why not and what helps.
KvmState DeviceState() {
  UniqueFd device(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (device) return {};
  int error = errno;
  KvmState state{KvmState::Verdict::kUnusable, fmt::format("/dev/kvm: {}", std::generic_category().message(error)), ""};
  if (error == EACCES) state.fix = "let your user use it: sudo usermod -aG kvm $USER, then log in again";
  if (error == ENOENT)
    state.fix = "enable virtualisation in the firmware or, in a virtual machine, nested virtualisation";
  return state;
}

std::string BootId() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

std::string LatestKey(const QemuProgram& qemu) { return fmt::format("latest kvm canary {} {}", BootId(), qemu.Text()); }

// Boots the kernel with nothing to mount: it comes to its panic, restarts at once, and -no-reboot makes that QEMU's
// end.
std::string BootCanary(const QemuProgram& qemu, const std::filesystem::path& kernel) {
  Sandbox sandbox = Sandbox::Create("canary");
  std::filesystem::path console = sandbox.Path("console.log");
  const MachineType& machine = MachineTypeOf(MachineKind::kMicro);
  ChildProcess canary({.argv = {qemu.path.string(),
                                "-nodefaults",
                                "-no-user-config",
                                "-no-reboot",
                                "-display",
                                "none",
                                "-accel",
                                "kvm",
                                "-cpu",
                                "host",
                                "-m",
                                "128",
                                "-M",
                                fmt::format("{},{}", machine.name, machine.options),
                                "-chardev",
                                fmt::format("file,id=serial,path={}", console.string()),
                                "-serial",
                                "chardev:serial",
                                "-kernel",
                                kernel.string(),
                                "-append",
                                "console=ttyS0 quiet panic=-1 reboot=t pci=off"},
                       .stdout_path = sandbox.Path("vmm.log"),
                       .stderr_path = sandbox.Path("vmm.log"),
                       .grace = Duration::zero()});
  try {
    ExitStatus status = canary.Wait(Deadline::After(kCanaryAllowance));
    std::ifstream file(console);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (status.ok() && text.find("Kernel panic") != std::string::npos) return std::string(kUsable);
    return fmt::format("/dev/kvm opens, but a canary guest did not boot (QEMU: {})", status.ToString());
  } catch (const Timeout&) {
    return fmt::format("/dev/kvm opens, but a canary guest did not boot in {}", ForPeople(kCanaryAllowance));
  }
}

// "usable", or why KVM is not.
std::string CanaryVerdict(const QemuProgram& qemu, const std::filesystem::path& kernel) {
  HostFacts facts;
  std::string key = fmt::format("kvm canary {} {} {}", BootId(), qemu.Text(), FileIdentity(kernel));
  if (auto known = facts.Get(key)) return *known;
  auto lock = facts.Lock();
  if (auto known = facts.Get(key)) return *known;  // another process has just found out
  std::string verdict = BootCanary(qemu, kernel);
  facts.Put(key, verdict);
  facts.Put(LatestKey(qemu), verdict);
  return verdict;
}

struct Override {
  bool given = false;
  bool kvm = false;
};

Override AcceleratorVariable() {
  const char* value = std::getenv("MAYFLY_ACCEL");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string text = value != nullptr ? value : "";
  if (text.empty() || text == "auto") return {};
  if (text == "kvm" || text == "tcg") return {.given = true, .kvm = text == "kvm"};
  throw BadSpec({.summary = fmt::format("MAYFLY_ACCEL: \"{}\" is not allowed; allowed: kvm, tcg, auto", text)});
}

}  // namespace

AcceleratorChoice ChooseAccelerator(Accelerator wanted, const QemuProgram& qemu, const std::filesystem::path& kernel) {
  if (wanted == Accelerator::kSoftware) return {false, "the spec asks for software emulation"};
  Override variable = AcceleratorVariable();
  if (wanted == Accelerator::kAuto && variable.given) {
    return {variable.kvm, fmt::format("MAYFLY_ACCEL={}", variable.kvm ? "kvm" : "tcg")};
  }
  KvmState device = DeviceState();
  std::string verdict = device.verdict == KvmState::Verdict::kUnusable ? device.detail : CanaryVerdict(qemu, kernel);
  if (verdict == kUsable) return {true, "a canary guest booted with KVM"};
  if (wanted == Accelerator::kAuto) return {false, verdict};
  throw HostLacks(
      {.summary = fmt::format("the spec asks for hardware virtualisation: {}", verdict),
       .next_step = device.fix.empty() ? "leave accelerator out: mayfly then takes what works" : device.fix});
}

KvmState KnownKvmState(const QemuProgram& qemu) {
  KvmState state = DeviceState();
  if (state.verdict == KvmState::Verdict::kUnusable) return state;
  if (Override variable = AcceleratorVariable(); variable.given && variable.kvm) {
    return {KvmState::Verdict::kUsable, "/dev/kvm opens, and MAYFLY_ACCEL=kvm says that guests boot with it", ""};
  }
  auto latest = HostFacts().Get(LatestKey(qemu));
  if (!latest)
    return {KvmState::Verdict::kUntried, "/dev/kvm opens; the first VM will try whether a guest boots with it", ""};
  if (*latest == kUsable) return {KvmState::Verdict::kUsable, "a canary guest booted with KVM", ""};
  return {KvmState::Verdict::kUnusable, *latest, "MAYFLY_ACCEL=kvm uses it all the same"};
}

#if defined(__x86_64__)
namespace {

uint64_t MeasureTscKhz() {
  struct Sample {
    uint64_t nanoseconds = 0;
    uint64_t ticks = 0;
  };
  // The reading that was disturbed least of 16.
  auto sample = [] {
    Sample best;
    uint64_t best_gap = std::numeric_limits<uint64_t>::max();
    for (int i = 0; i < 16; ++i) {
      timespec now{};
      uint64_t before = __rdtsc();
      clock_gettime(CLOCK_MONOTONIC_RAW, &now);
      uint64_t gap = __rdtsc() - before;
      if (gap >= best_gap) continue;
      best_gap = gap;
      best = {static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec), before + gap / 2};
    }
    return best;
  };
  constexpr uint64_t kSpan = 2'000'000;  // 2 ms give a few millionths
  Sample first = sample();
  Sample last = sample();
  while (last.nanoseconds - first.nanoseconds < kSpan) last = sample();
  return static_cast<uint64_t>(static_cast<double>(last.ticks - first.ticks) * 1e6 /
                               static_cast<double>(last.nanoseconds - first.nanoseconds));
}

// Each measurement gives another number, and all processes have to mean the same host by it.
uint64_t AgreedTscKhz() {
  auto number = [](const std::optional<std::string>& text) {
    return text ? std::strtoull(text->c_str(), nullptr, 10) : 0;
  };
  HostFacts facts;
  std::string key = "TSC kHz " + BootId();
  if (uint64_t known = number(facts.Get(key))) return known;
  auto lock = facts.Lock();
  if (uint64_t known = number(facts.Get(key))) return known;  // another process has just measured it
  uint64_t khz = MeasureTscKhz();
  facts.Put(key, std::to_string(khz));
  return khz;
}

}  // namespace
#endif

uint64_t HostTscKhz() {
#if defined(__x86_64__)
  static const uint64_t khz = AgreedTscKhz();
  return khz;
#else
  return 0;
#endif
}

}  // namespace mayfly::internal
