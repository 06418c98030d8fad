// The image debian: systemd, cloud-init and the agent as a service of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/error_of_fixture.h>
#include <mayfly/vm.h>

#include <chrono>
#include <string>

namespace mayfly {
namespace {

using internal::ErrorOf;
using literals::operator""_MiB;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

constexpr seconds kLong(240);  // a service starts in 5 s here, under software emulation and all cores busy

MachineSpec Debian() { return {.cpus = 2, .memory = 512_MiB, .image = "debian"}; }

// A unit that runs a command and is active while its process lives.
void AddUnit(Vm& vm, const std::string& name, const std::string& section) {
  vm.WriteFile("/etc/systemd/system/" + name + ".service", "[Service]\n" + section);
  vm.Exec("systemctl daemon-reload").OrThrow();
}

TEST(ImageDebian, WaitsForItsUnitsAndTellsAtOnceThatOneFailed) {
  Vm vm = Vm::Fork(Debian());
  AddUnit(vm, "late", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo ran > /run/late'\n");
  AddUnit(vm, "broken", "Type=oneshot\nExecStart=/bin/sh -c 'exit 7'\n");

  vm.Exec("systemd-run --on-active=1 --timer-property=AccuracySec=10ms --unit=starter systemctl start late").OrThrow();
  vm.WaitForUnit("late.service", kLong);
  EXPECT_EQ(vm.ReadFile("/run/late"), "ran\n");

  vm.Exec("systemctl start --no-block broken").OrThrow();
  Clock::time_point began = Clock::now();
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.WaitForUnit("broken.service", kLong); }),
              AllOf(HasSubstr("unit broken.service failed"), HasSubstr("exit-code")));
  EXPECT_LT(Clock::now() - began, kLong / 2) << "told at the deadline only";
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.WaitForUnit("nothing.service", kLong); }),
              HasSubstr("unit nothing.service"));
}

TEST(ImageDebian, RestartsAnAgentThatDiedAndTheVmGoesOn) {
  Vm vm = Vm::Fork(Debian());
  std::string boot = vm.ReadFile("/proc/sys/kernel/random/boot_id");
  std::string first = vm.Exec("systemctl show --property=MainPID --value mayfly-agent").OrThrow().out;
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { vm.Exec("systemctl kill --signal=KILL mayfly-agent; sleep 1000"); }),
              HasSubstr("the guest's agent restarted"));
  EXPECT_EQ(vm.ReadFile("/proc/sys/kernel/random/boot_id"), boot) << "the guest restarted";
  EXPECT_NE(vm.Exec("systemctl show --property=MainPID --value mayfly-agent").OrThrow().out, first);
}

TEST(ImageDebian, StopsItsServicesWhenThePowerButtonIsPressed) {
  Vm vm = Vm::Boot(Debian());
  AddUnit(vm, "keeper",
          "ExecStart=/bin/sleep infinity\n"
          "ExecStopPost=/bin/sh -c 'echo $$SERVICE_RESULT > /var/lib/keeper; sync /var/lib/keeper'\n");
  vm.Exec("systemctl start keeper").OrThrow();
  vm.WaitForUnit("systemd-logind.service", kLong);  // it is what listens to the button
  EXPECT_TRUE(vm.machine().Stop(kLong)) << vm.console();
  EXPECT_EQ(vm.status().reason, "the guest powered off");
  vm.Boot();
  EXPECT_EQ(vm.ReadFile("/var/lib/keeper"), "success\n");
}

TEST(ImageDebian, DoesWhatItsSeedSays) {
  MachineSpec spec = Debian();
  spec.seed = Seed{.user_data =
                       "#cloud-config\n"
                       "hostname: seeded\n"
                       "users: [{name: tester, uid: '1234', shell: /bin/sh}]\n"
                       "write_files: [{path: /etc/seeded, content: from the seed, permissions: '0640'}]\n"
                       "runcmd: [[sh, -c, 'id -un tester > /run/seeded']]\n",
                   .meta_data = "instance-id: one\n",
                   .network_config =
                       "version: 2\n"
                       "ethernets:\n"
                       "  eth0: {addresses: [192.0.2.7/24]}\n"};
  spec.nics.push_back({.id = "lan", .kind = NicKind::kNat});  // networkd wants a carrier
  Vm vm = Vm::Boot(spec);
  vm.WaitForFile("/run/cloud-init/result.json", kLong);
  EXPECT_THAT(vm.ReadFile("/run/cloud-init/result.json"), HasSubstr("\"errors\": []"));
  EXPECT_EQ(vm.ReadFile("/run/seeded"), "tester\n");
  EXPECT_EQ(vm.ReadFile("/etc/seeded"), "from the seed");
  EXPECT_EQ(vm.Stat("/etc/seeded")->mode & 0777U, 0640U);
  EXPECT_EQ(vm.Exec("hostname").out, "seeded\n");
  EXPECT_EQ(vm.Exec("id -u", {.user = "tester"}).out, "1234\n");
  // systemd-networkd does its part after cloud-init has done its own.
  vm.WaitUntilSucceeds("ip -4 -brief address show eth0 | grep -F 192.0.2.7/24", kLong);
}

TEST(ImageDebian, StartsNoCloudInitWithoutASeed) {
  Vm vm = Vm::Fork(Debian());
  EXPECT_THAT(vm.Exec("cloud-init status").out, HasSubstr("disabled"));
}

}  // namespace
}  // namespace mayfly
