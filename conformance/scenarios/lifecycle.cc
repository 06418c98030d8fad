#include <fmt/format.h>
#include <mayfly/internal/files.h>

#include <csignal>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

// Makes busybox's acpid write to the console when the button is pressed.
constexpr const char* kListen =
    "modprobe button && modprobe evdev && mkdir -p /etc/acpi/PWRF && "
    "printf '#!/bin/sh\\necho button-pressed > /dev/console\\n' > /etc/acpi/PWRF/00000080 && "
    "chmod 755 /etc/acpi/PWRF/00000080 && acpid -l /dev/null -c /etc/acpi";

constexpr const char* kBootId = "cat /proc/sys/kernel/random/boot_id";

SCENARIO_FOR(kLifecycleBoot, "a guest boots from kernel and initramfs with the words of its spec") {
  Vm& vm = Boot({.boot = {.command_line = "conformance.word=blue"}});
  EXPECT_THAT(vm.Exec("uname -s"), Prints("Linux\n"));
  EXPECT_THAT(vm.Exec("cat /proc/cmdline"), Prints(HasSubstr(" conformance.word=blue")));
  vm.WaitForConsole("VMRS_READY", Scaled(kSoon));
}

REFUSAL_FOR(kLifecycleBoot, "a file that is no kernel is refused before anything runs") {
  auto kernel = Directory() / "kernel";
  internal::WriteWholeFile(kernel, "I am no kernel.\n");
  EXPECT_THROW(Boot({.boot = {.kernel = kernel}}), BadSpec);
}

REFUSAL_FOR(kLifecycleBoot, "a machine that runs is not booted twice") {
  Vm& vm = Boot();
  std::string boot_id = Out(vm, kBootId);
  EXPECT_THROW(vm.machine().Boot(), BadSpec);
  EXPECT_THAT(vm.Exec(kBootId), Prints(boot_id));
}

SCENARIO_FOR(kLifecycleStop, "a guest that is asked powers off by itself and writes what it had not written") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  GuestProcess writer = vm.Start("exec 3<>/dev/vda; echo blue >&3; echo written; sleep 600");
  writer.WaitForOutput("written", Scaled(kSoon));
  EXPECT_TRUE(vm.Stop());
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  vm.Boot();
  EXPECT_THAT(vm.Exec("head -n 1 /dev/vda"), Prints("blue\n"));
}

REFUSAL_FOR(kLifecycleStop, "a guest that does not obey is killed after its grace") {
  Vm& vm = Boot();  // nothing in it listens to the power button
  EXPECT_FALSE(vm.machine().Stop(300ms));
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  EXPECT_EQ(vm.status().reason, "killed");
}

SCENARIO_FOR(kLifecycleKill, "what was synced is there after a power cut and what was not is lost") {
  Vm& vm = Boot({.disks = {{.id = "kept", .size = 16_MiB}, {.id = "lost", .size = 16_MiB}}});
  Out(vm, "echo blue | dd of=/dev/vda conv=fsync 2>/dev/null");
  GuestProcess writer = vm.Start("exec 3<>/dev/vdb; echo red >&3; echo written; sleep 600");
  writer.WaitForOutput("written", Scaled(kSoon));
  vm.Kill();
  EXPECT_EQ(vm.status(), (MachineStatus{MachineState::kStopped, "killed"}));
  vm.Boot();
  EXPECT_THAT(vm.Exec("head -n 1 /dev/vda"), Prints("blue\n"));
  EXPECT_THAT(vm.Exec("head -c 3 /dev/vdb"), Prints(Not("red")));
}

REFUSAL_FOR(kLifecycleKill, "a machine that is stopped stays so") {
  Vm& vm = Boot();
  vm.Kill();
  vm.Kill();
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  EXPECT_THROW(vm.Exec("true"), Error);
}

SCENARIO_FOR(kLifecycleState, "the states come in order, each with a reason") {
  Vm& vm = Create();
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
  vm.Boot();
  std::vector<std::string> states;
  for (const Event& event : vm.machine().timeline().Events()) {
    if (event.name != "state") continue;
    states.push_back(event.detail.substr(0, event.detail.find(':')));
    EXPECT_THAT(event.detail, HasSubstr(": ")) << "without a reason";
  }
  EXPECT_THAT(states, testing::ElementsAre("Stopped", "Starting", "Running", "Ready"));
}

SCENARIO_FOR(kLifecycleState, "a guest that powers off is Stopped") {
  Vm& vm = Boot();
  EXPECT_THROW(vm.Exec("echo o > /proc/sysrq-trigger; sleep 600"), Error);
  EXPECT_EQ(AwaitState(vm, MachineState::kStopped).reason, "the guest powered off");
}

SCENARIO_FOR(kLifecycleState, "a VMM that dies makes the machine Failed and says how") {
  Vm& vm = Boot();
  ASSERT_EQ(kill(vm.machine().Info().pid, SIGKILL), 0);
  EXPECT_THAT(AwaitState(vm, MachineState::kFailed).reason, HasSubstr("SIGKILL"));
}

SCENARIO_FOR(kLifecycleReboot, "a reboot starts the guest anew in the same machine") {
  Vm& vm = Boot();
  pid_t pid = vm.machine().Info().pid;
  std::string before = Out(vm, kBootId);
  Out(vm, "touch /before");
  vm.Reboot();
  EXPECT_THAT(vm.Exec(kBootId), Prints(Not(before)));
  EXPECT_FALSE(vm.Stat("/before"));
  EXPECT_EQ(vm.machine().Info().pid, pid);
}

SCENARIO_FOR(kLifecycleReboot, "the reset button starts a guest anew that does not answer") {
  Vm& vm = Boot();
  std::string before = Out(vm, kBootId);
  vm.Reset();
  EXPECT_THAT(vm.Exec(kBootId), Prints(Not(before)));
}

REFUSAL_FOR(kLifecycleReboot, "a machine that is stopped cannot be rebooted") {
  Vm& vm = Boot();
  vm.Kill();
  EXPECT_THROW(vm.Reboot(), Error);
  EXPECT_EQ(vm.status().state, MachineState::kStopped);
}

SCENARIO_FOR(kLifecycleDelete, "nothing of the machine is left") {
  Vm& vm = Boot({.disks = {{.id = "data", .size = 16_MiB}}});
  pid_t pid = vm.machine().Info().pid;
  auto directory = vm.machine().sandbox().directory();
  ASSERT_EQ(kill(pid, 0), 0);
  ASSERT_TRUE(std::filesystem::exists(directory));
  Destroy(vm);
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_FALSE(std::filesystem::exists(directory));
}

REFUSAL_FOR(kLifecycleDelete, "a machine that was never booted leaves nothing either") {
  Vm& vm = Create();
  auto directory = vm.machine().sandbox().directory();
  Destroy(vm);
  EXPECT_FALSE(std::filesystem::exists(directory));
}

SCENARIO_FOR(kLifecyclePowerButton, "a guest that listens to the button hears it") {
  Vm& vm = Boot();
  Out(vm, kListen);
  // acpid leaves for the background first and opens the button then.
  vm.WaitUntilSucceeds("ls -l /proc/$(pidof acpid)/fd | grep /dev/input/event", Scaled(kSoon));
  vm.machine().PowerButton();
  vm.WaitForConsole("button-pressed", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("true"), Succeeds()) << "what it does then is its own affair";
}

REFUSAL_FOR(kLifecyclePowerButton, "a guest that does not listen goes on") {
  Vm& vm = Boot();
  vm.machine().PowerButton();
  EXPECT_THAT(vm.Exec("echo here"), Prints("here\n"));
  EXPECT_EQ(vm.status().state, MachineState::kReady);
}

REFUSAL_FOR(kLifecyclePowerButton, "a machine that is stopped has none") {
  Vm& vm = Boot();
  vm.Kill();
  EXPECT_THROW(vm.machine().PowerButton(), BadSpec);
}

}  // namespace
}  // namespace mayfly::conformance
