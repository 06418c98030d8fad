// A service is upgraded and the machine restarts: does the new version come up with the old one's state?
#include <mayfly/mayfly.h>

using mayfly::Prints;
using mayfly::literals::operator""_MiB;
using std::chrono::seconds;
using testing::HasSubstr;

class Upgrade : public mayfly::VmFixture {
 protected:
  // A whole Debian: systemd is process 1, and mayfly's agent is one of its services.
  mayfly::MachineSpec Spec() const override { return {.cpus = 2, .memory = 512_MiB, .image = "debian"}; }

  void Prepare(mayfly::Vm& vm) override {
    vm.Upload(VISITS_UNIT, "/etc/systemd/system/");
    vm.Upload(VISITS_1, "/usr/local/bin/visits");
    vm.Exec("systemctl enable --now visits").OrThrow();
  }

  void Install(const char* program) { vm().Upload(program, "/usr/local/bin/visits"); }

  mayfly::ExecResult Visit() { return vm().Exec({"bash", "-c", "cat < /dev/tcp/127.0.0.1/8080"}); }
};

TEST_F(Upgrade, KeepsTheCountOverTheReboot) {
  EXPECT_THAT(Visit(), Prints("visits 1: you are visitor 1\n"));
  Install(VISITS_2);
  EXPECT_THAT(Visit(), Prints("visits 1: you are visitor 2\n"));  // the old program still runs

  vm().Reboot();
  vm().WaitForUnit("visits.service", seconds(120));
  EXPECT_THAT(Visit(), Prints("visits 2: you are visitor 3\n"));
  EXPECT_EQ(vm().ReadFile("/var/lib/visits/state"), "format 2, visits 3\n");
}

TEST_F(Upgrade, RefusesToGoBackAndLeavesTheStateAlone) {
  Install(VISITS_2);
  vm().Exec("systemctl restart visits").OrThrow();
  EXPECT_THAT(Visit(), Prints("visits 2: you are visitor 1\n"));

  Install(VISITS_1);
  vm().Reboot();
  EXPECT_THROW(vm().WaitForUnit("visits.service", seconds(120)), mayfly::GuestFailed);
  EXPECT_THAT(vm().Exec("journalctl --unit=visits --output=cat"), Prints(HasSubstr("the state has format 2")));
  EXPECT_EQ(vm().ReadFile("/var/lib/visits/state"), "format 2, visits 1\n");
}
