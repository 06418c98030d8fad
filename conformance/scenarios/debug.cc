#include <fmt/format.h>

#include <fstream>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

// Whether a file, which may be larger than memory, contains a text.
bool FileContains(const std::filesystem::path& path, std::string_view text) {
  std::ifstream file(path, std::ios::binary);
  std::string window;
  std::string chunk(size_t{1} << 20, '\0');
  while (file.read(chunk.data(), static_cast<std::streamsize>(chunk.size())) || file.gcount() > 0) {
    window.append(chunk.data(), static_cast<size_t>(file.gcount()));
    if (window.find(text) != std::string::npos) return true;
    window.erase(0, window.size() - std::min(window.size(), text.size()));
  }
  return false;
}

SCENARIO_FOR(kDebugPvpanic, "a panic of the guest fails the machine, which can be booted again") {
  Vm& vm = Boot({.pvpanic = true});
  Out(vm, "modprobe pvpanic-mmio; modprobe pvpanic-pci; true");
  EXPECT_THROW(vm.Exec("echo c > /proc/sysrq-trigger"), Error);
  EXPECT_EQ(AwaitState(vm, MachineState::kFailed).reason, "the guest panicked");
  vm.Kill();
  vm.Boot();
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

SCENARIO_FOR(kDebugNmi, "the guest's kernel gets an NMI and goes on") {
  Vm& vm = Boot();
  EXPECT_THAT(vm.Exec("dmesg"), Prints(Not(HasSubstr("Dazed and confused"))));
  vm.machine().InjectNmi();
  EXPECT_THAT([&] { return vm.Exec("dmesg"); }, Eventually(Prints(HasSubstr("Dazed and confused")), Scaled(kSoon)));
}

REFUSAL_FOR(kDebugNmi, "a machine that is stopped gets none") {
  Vm& vm = Boot();
  vm.Kill();
  EXPECT_THROW(vm.machine().InjectNmi(), BadSpec);
}

SCENARIO_FOR(kDebugCoredump, "the guest's memory is in an ELF file, and the guest goes on") {
  Vm& vm = Boot();
  std::string secret = Out(vm, "head -c 32 /dev/urandom | xxd -p -c 64 | tee /run/secret");
  secret.pop_back();
  ASSERT_EQ(secret.size(), 64U);
  auto core = Directory() / "core";
  vm.machine().CoreDump(core);
  EXPECT_TRUE(FileContains(core,
                           "\x7f"
                           "ELF"));
  EXPECT_TRUE(FileContains(core, secret)) << "what the guest has in a file in memory";
  EXPECT_THAT(vm.Exec("cat /run/secret"), Prints(secret + "\n"));
}

REFUSAL_FOR(kDebugCoredump, "a place that cannot be written is refused and the guest goes on") {
  Vm& vm = Boot();
  EXPECT_THROW(vm.machine().CoreDump(Directory() / "none" / "core"), Error);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

}  // namespace
}  // namespace mayfly::conformance
