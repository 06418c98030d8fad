#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>

#include <csignal>
#include <fstream>
#include <future>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

SCENARIO_FOR(kVmmPing, "the VMM that runs has the version that the probe found") {
  Vm& vm = Boot();
  MachineInfo info = vm.machine().Info();
  EXPECT_FALSE(info.vmm.empty());
  EXPECT_THAT(FindDriver(info.driver).Probe().version, StartsWith(info.vmm));
}

SCENARIO_FOR(kVmmInfo, "what is told of the machine is what runs") {
  Vm& vm = Boot({.cpus = 2, .memory = 384_MiB});
  MachineInfo info = vm.machine().Info();
  EXPECT_EQ(info.driver, vm.machine().driver());
  EXPECT_FALSE(info.machine.empty());
  EXPECT_FALSE(info.accelerator.empty());
  EXPECT_EQ(vm.machine().spec().cpus, static_cast<uint32_t>(Number(vm, "nproc")));
  ASSERT_FALSE(info.command_line.empty());
  std::ifstream command(fmt::format("/proc/{}/cmdline", info.pid));
  std::string first;
  std::getline(command, first, '\0');
  EXPECT_EQ(std::filesystem::path(first).filename(), std::filesystem::path(info.command_line[0]).filename());
}

SCENARIO_FOR(kVmmShutdown, "the VMM ends with its machine and not by a failure") {
  Vm& vm = Boot();
  pid_t pid = vm.machine().Info().pid;
  EXPECT_TRUE(vm.Stop());
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  EXPECT_EQ(kill(pid, 0), -1) << "the process is still there";
}

SCENARIO_FOR(kVmmApiMode, "one process does all that it is told on its control socket, and the guest shows it") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  pid_t pid = vm.machine().Info().pid;
  std::string boot_id = Out(vm, "cat /proc/sys/kernel/random/boot_id");
  vm.machine().Pause();
  EXPECT_TRUE(vm.status().paused);
  auto answer = std::async(std::launch::async, [&] { return Out(vm, "cat /sys/block/vda/size"); });
  EXPECT_EQ(answer.wait_for(1s), std::future_status::timeout) << "a paused guest answered";
  vm.machine().Resume();
  EXPECT_EQ(answer.get(), "32768\n");
  vm.machine().ResizeDisk("data", 32_MiB);
  EXPECT_THAT([&] { return Number(vm, "cat /sys/block/vda/size"); }, Eventually(testing::Eq(65536), Scaled(kSoon)));
  vm.Reset();
  EXPECT_THAT(vm.Exec("cat /proc/sys/kernel/random/boot_id"), Prints(Not(boot_id)));
  EXPECT_EQ(vm.machine().Info().pid, pid);
}

REFUSAL_FOR(kVmmApiMode, "what the VMM refuses changes nothing and is told as an error") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  EXPECT_THROW(vm.machine().ResizeDisk("data", 8_MiB), Error);
  EXPECT_THAT(vm.Exec("cat /sys/block/vda/size"), Prints("32768\n"));
  EXPECT_EQ(vm.status().state, MachineState::kReady);
}

SCENARIO_FOR(kVmmCliMode, "the command line alone starts the VMM") {
  Vm& vm = Boot();
  std::vector<std::string> words = vm.machine().Info().command_line;
  ASSERT_FALSE(words.empty());
  vm.Kill();
  // Its directory, with its disks, stays until the VM goes. The console's log of before is out of the way: a VMM may
  // append to it, or begin it anew.
  const std::filesystem::path log = vm.machine().console_path();
  std::filesystem::rename(log, log.native() + ".before");
  internal::ChildProcess again({.argv = words, .working_directory = log.parent_path()});
  auto console = [&] { return std::filesystem::exists(log) ? internal::ReadWholeFile(log, 16 << 20) : ""; };
  EXPECT_THAT(console, Eventually(HasSubstr("VMRS_READY"), Scaled(60s)));
}

SCENARIO_FOR(kVmmCliMode, "an artefact of each VM says how to start it") {
  Vm& vm = Boot();
  vm.WriteArtifacts(Directory() / "artefacts");
  std::string script = internal::ReadWholeFile(Directory() / "artefacts" / "reproduce.sh", 1 << 20);
  EXPECT_THAT(script, AllOf(HasSubstr(vm.machine().Info().command_line[0]), HasSubstr("mayfly run --spec")));
}

}  // namespace
}  // namespace mayfly::conformance
