#include <mayfly/vm.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/error_of_fixture.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace mayfly {
namespace {

using internal::ErrorOf;
using literals::operator""_MiB;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;

MachineSpec Small() { return {.memory = 128_MiB}; }

TEST(Vm, IsReadyWhenBootReturns) {
  Vm vm = Vm::Boot(Small());
  EXPECT_EQ(vm.status().state, MachineState::kReady);
  ExecResult result = vm.Exec("echo hello; echo wrong >&2; exit 3");
  EXPECT_EQ(result.out, "hello\n");
  EXPECT_EQ(result.err, "wrong\n");
  EXPECT_EQ(result.exit_code, 3);
}

TEST(Vm, KilledMachinesKeepTheirDisksAndBootAgain) {
  MachineSpec spec = Small();
  spec.disks.push_back({.id = "data", .size = 32_MiB});
  Vm vm = Vm::Boot(spec);
  vm.Exec("mke2fs -q /dev/vda && mount /dev/vda /mnt && echo kept > /mnt/file && umount /mnt").OrThrow();
  std::string first_boot = vm.ReadFile("/proc/sys/kernel/random/boot_id");
  vm.Kill();
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.Exec("true"); }),
              AllOf(HasSubstr("the VM is not up"), HasSubstr("Boot()")));
  vm.Boot();
  EXPECT_NE(vm.ReadFile("/proc/sys/kernel/random/boot_id"), first_boot);
  EXPECT_EQ(vm.Exec("mount /dev/vda /mnt && cat /mnt/file").out, "kept\n");
}

TEST(Vm, RebootAndResetEndReadyInAnotherBoot) {
  Vm vm = Vm::Boot(Small());
  std::string boot = vm.ReadFile("/proc/sys/kernel/random/boot_id");
  pid_t vmm = vm.machine().Info().pid;
  vm.Reboot();
  std::string second = vm.ReadFile("/proc/sys/kernel/random/boot_id");
  EXPECT_NE(second, boot);
  vm.Reset();
  EXPECT_NE(vm.ReadFile("/proc/sys/kernel/random/boot_id"), second);
  EXPECT_EQ(vm.machine().Info().pid, vmm);
}

TEST(Vm, StopPowersTheGuestOffInAnOrderlyWay) {
  Vm vm = Vm::Boot(Small());
  EXPECT_TRUE(vm.Stop());
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  EXPECT_EQ(vm.status().reason, "the guest powered off");
  EXPECT_THAT(vm.console(), HasSubstr("Power down"));
  EXPECT_TRUE(vm.Stop()) << "a stopped machine is stopped";
}

TEST(Vm, StopWakesAPausedGuest) {
  Vm vm = Vm::Boot(Small());
  vm.machine().Pause();
  EXPECT_TRUE(vm.Stop());
  EXPECT_EQ(vm.status().reason, "the guest powered off");
}

TEST(Vm, StopKillsAGuestThatDoesNotObey) {
  MachineSpec spec = Small();
  spec.agent = false;  // nothing in this guest listens to the power button
  Vm vm = Vm::Boot(spec);
  EXPECT_FALSE(vm.Stop(milliseconds(300)));
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
}

TEST(Vm, APanicEndsTheBootAtOnceWithTheGuestsWords) {
  MachineSpec spec = Small();
  spec.name = "kv";
  spec.boot.command_line = "init=/nothing rdinit=/nothing root=/dev/nothing";
  Clock::time_point began = Clock::now();
  std::string text = ErrorOf<BootFailed>([&] { Vm::Boot(spec); });
  EXPECT_THAT(text, AllOf(HasSubstr("cannot boot kv (qemu, microvm): the guest panicked after"),
                          HasSubstr("Kernel panic - not syncing")));
  EXPECT_LT(Clock::now() - began, Scaled(seconds(45))) << "told at the deadline only";
}

TEST(Vm, AGuestThatIsNeverReadyIsToldWithItsConsole) {
  MachineSpec spec = Small();
  spec.boot.command_line = "loglevel=7 rdinit=/bin/sleep -- 1000";
  spec.boot_timeout = seconds(4);
  // How far the guest comes in that time is the host's affair: any line of its kernel will do.
  EXPECT_THAT(ErrorOf<Timeout>([&] { Vm::Boot(spec); }),
              AllOf(HasSubstr("not ready after 4"), HasSubstr("no agent has answered"), HasSubstr("boot_timeout"),
                    ContainsRegex("console: …\n  \\[ +[0-9]+[.][0-9]+\\] ")));
}

TEST(Vm, WordsForInitStayTheLastOnesOfTheKernelsCommandLine) {
  MachineSpec spec = Small();
  spec.name = "kv";
  spec.boot.command_line = "rdinit=/bin/sleep -- 1000";
  Vm vm = Vm::Create(spec);
  EXPECT_THAT(vm.machine().Info().command_line,
              testing::Contains(AllOf(HasSubstr("hostname=kv "), EndsWith(" rdinit=/bin/sleep -- 1000"))));
}

TEST(Vm, PowerOffInTheMiddleOfACommandIsToldAsSuch) {
  Vm vm = Vm::Boot(Small());
  std::string text = ErrorOf<GuestFailed>([&] { vm.Exec("echo o > /proc/sysrq-trigger; sleep 1000"); });
  EXPECT_THAT(text, AllOf(HasSubstr("sysrq-trigger"), HasSubstr("Stopped, the guest powered off")));
}

TEST(Vm, AKilledVmmIsInfrastructureAndNotTheGuestsFault) {
  Vm vm = Vm::Boot(Small());
  std::thread killer([&] { kill(vm.machine().Info().pid, SIGKILL); });
  std::string text = ErrorOf<VmmDied>([&] { vm.Exec("sleep 1000"); });
  killer.join();
  EXPECT_THAT(text, HasSubstr("SIGKILL"));
  EXPECT_EQ(vm.status().state, MachineState::kFailed);
}

TEST(Vm, AStartedProcessTellsWhatBecameOfItsMachineToo) {
  Vm vm = Vm::Boot(Small());
  GuestProcess sleeper = vm.Start("sleep 1000");
  GuestProcess off = vm.Start("sleep 0.2; echo o > /proc/sysrq-trigger");
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { sleeper.Wait(hours(1)); }),
              AllOf(HasSubstr("sleep 1000"), HasSubstr("Stopped, the guest powered off")));
  vm.Boot();
  GuestProcess reader = vm.Start("cat", {.open_stdin = true});
  kill(vm.machine().Info().pid, SIGKILL);
  EXPECT_THAT(ErrorOf<VmmDied>([&] { reader.WaitForOutput("never", hours(1)); }), HasSubstr("SIGKILL"));
  EXPECT_THAT(ErrorOf<VmmDied>([&] { reader.WriteStdin("x"); }), HasSubstr("SIGKILL"));
}

TEST(Vm, AnAgentThatIsKilledFailsWhatWaitsForIt) {
  Vm vm = Vm::Boot({.memory = 128_MiB, .boot_timeout = seconds(60)});
  // The agent is process 1: its death is a panic of the kernel, and the guest restarts.
  std::string text = ErrorOf<GuestFailed>([&] { vm.Exec("echo c > /proc/sysrq-trigger; sleep 1000"); });
  EXPECT_THAT(text, HasSubstr("sysrq-trigger"));
}

TEST(Vm, FilesTravelBothWaysWithTheirModes) {
  Vm vm = Vm::Boot(Small());
  std::filesystem::path tree = std::filesystem::path(testing::TempDir()) / "vm-tree";
  std::filesystem::remove_all(tree);
  std::filesystem::create_directories(tree / "from/empty");
  std::ofstream(tree / "from/run.sh") << "#!/bin/sh\necho ran\n";
  std::filesystem::permissions(tree / "from/run.sh", std::filesystem::perms(0751));
  std::filesystem::create_symlink("run.sh", tree / "from/link");
  vm.Upload(tree / "from", "/data/");
  EXPECT_EQ(vm.Exec("/data/from/link; stat -c %a /data/from/run.sh; ls -d /data/from/empty").out,
            "ran\n751\n/data/from/empty\n");
  vm.Download("/data/from", tree / "back");
  EXPECT_EQ(std::filesystem::read_symlink(tree / "back/link"), "run.sh");
  EXPECT_EQ(std::filesystem::status(tree / "back/run.sh").permissions(), std::filesystem::perms(0751));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.Download("/no/such/file", tree / "x"); }), HasSubstr("/no/such/file"));
  EXPECT_THAT(ErrorOf<BadSpec>([&] { vm.Upload(tree / "missing", "/x"); }), HasSubstr("missing"));
  std::filesystem::remove_all(tree);
}

TEST(Vm, AFullGuestDiskFailsAnUploadAndLeavesNothingHalfMade) {
  Vm vm = Vm::Boot(Small());
  vm.Exec("mkdir /small && mount -t tmpfs -o size=1m tmpfs /small").OrThrow();
  std::filesystem::path file = std::filesystem::path(testing::TempDir()) / "vm-big";
  std::ofstream(file) << std::string(4 << 20, 'x');
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.Upload(file, "/small/big"); }),
              AllOf(HasSubstr("/small/big"), HasSubstr("No space left")));
  EXPECT_EQ(vm.Exec("ls -A /small").out, "");
  std::filesystem::remove(file);
}

TEST(Vm, AGuestThatRestartsDuringAnUploadFailsItAndKeepsNoHalfFile) {
  MachineSpec spec = Small();
  spec.disks.push_back({.id = "data", .size = 128_MiB});
  Vm vm = Vm::Boot(spec);
  vm.Exec("mke2fs -q /dev/vda && mount -o sync /dev/vda /mnt").OrThrow();
  std::filesystem::path file = std::filesystem::path(testing::TempDir()) / "vm-large";
  std::ofstream(file) << std::string(64 << 20, 'x');
  // Restarts as soon as anything of the upload is there, beside the directory lost+found.
  GuestProcess saboteur = vm.Start("until [ $(ls -A /mnt | wc -l) -gt 1 ]; do :; done; echo b > /proc/sysrq-trigger");
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.Upload(file, "/mnt/large"); }),
              AllOf(HasSubstr("/mnt/large"), HasSubstr("the guest restarted")));
  std::filesystem::remove(file);
  vm.Reset();
  vm.Exec("e2fsck -p /dev/vda; mount /dev/vda /mnt");
  EXPECT_FALSE(vm.Stat("/mnt/large"));
}

TEST(Vm, ProcessesThatLostTheirParentsAreReaped) {
  Vm vm = Vm::Boot(Small());
  vm.Exec("for i in $(seq 50); do (sleep 0.0$i & ); done").OrThrow();
  vm.WaitUntilSucceeds("! pidof sleep && ! grep -l 'State:.Z' /proc/[0-9]*/status", seconds(20));
}

TEST(Vm, WaitsEndWithTheirEventAndSayWhatTheyWaitedFor) {
  Vm vm = Vm::Boot(Small());
  GuestProcess later =
      vm.Start("sleep 0.3; touch /tmp/there; nc -l -p 7000 & sleep 0.3; echo the marker > /dev/console; wait");
  vm.WaitForFile("/tmp/there", seconds(20));
  vm.WaitForPort(7000, seconds(20));
  vm.WaitForConsole("the marker", seconds(20));
  EXPECT_EQ(vm.WaitUntilSucceeds("test -e /tmp/there && echo yes", seconds(20)).out, "yes\n");
  EXPECT_THAT(ErrorOf<Timeout>([&] { vm.WaitForFile("/tmp/never", milliseconds(50)); }), HasSubstr("/tmp/never"));
  EXPECT_THAT(ErrorOf<Timeout>([&] { vm.WaitForPort(7001, milliseconds(50)); }), HasSubstr("7001"));
  EXPECT_THAT(ErrorOf<Timeout>([&] { vm.WaitForConsole("no such text", milliseconds(50)); }),
              AllOf(HasSubstr("\"no such text\""), HasSubstr("the marker")));
  EXPECT_THAT(ErrorOf<Timeout>([&] { vm.WaitUntilSucceeds("false", milliseconds(200)); }), HasSubstr("false"));
}

TEST(Vm, WrongSpecsAreToldBeforeAnythingIsMade) {
  EXPECT_THAT(ErrorOf<BadSpec>([] { Vm::Create({.cpus = 0}); }), HasSubstr("cpus"));
  EXPECT_THAT(ErrorOf<BadSpec>([] { Vm::Create({.image = "tinny"}); }), AllOf(HasSubstr("tinny"), HasSubstr("tiny")));
  MachineSpec kernel{.image = ""};
  kernel.boot.kernel = "/no/such/kernel";
  EXPECT_THAT(ErrorOf<BadSpec>([&] { Vm::Create(kernel); }), HasSubstr("/no/such/kernel"));
  kernel.boot.kernel = "/etc/passwd";
  EXPECT_THAT(ErrorOf<Error>([&] { Vm::Boot(kernel); }), HasSubstr("/etc/passwd"));
}

TEST(Vm, TellsThatAVmWithoutAgentCannotRunCommands) {
  MachineSpec spec = Small();
  spec.agent = false;
  Vm vm = Vm::Create(spec);
  EXPECT_THAT(ErrorOf<BadSpec>([&] { vm.Exec("true"); }), HasSubstr("has no agent"));
}

TEST(Vm, LeavesNoProcessAndNoFile) {
  std::filesystem::path sandbox;
  pid_t vmm = 0;
  {
    Vm vm = Vm::Boot(Small());
    sandbox = vm.machine().sandbox().directory();
    vmm = vm.machine().Info().pid;
  }
  EXPECT_FALSE(std::filesystem::exists(sandbox));
  EXPECT_EQ(kill(vmm, 0), -1);
}

}  // namespace
}  // namespace mayfly
