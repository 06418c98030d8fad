// Forks, snapshots and clones of real guests of Cloud Hypervisor, through Vm: where KVM works, which `mayfly host` says
// of itself.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/own_templates.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/vm.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/ch/program.h"

namespace mayfly::ch {
namespace {

using literals::operator""_MiB;
using std::chrono::seconds;
using ::testing::HasSubstr;

std::string Out(Vm& vm, const std::string& command) { return vm.Exec(command).OrThrow().out; }

// What a process has for itself, in MiB.
int64_t PrivateMemory(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
  int64_t sum = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Private_Dirty:") || line.starts_with("Private_Clean:")) {
      sum += std::stoll(line.substr(line.find(':') + 1));
    }
  }
  return sum / 1024;
}

class RealGuestFork : public testing::Test {
 protected:
  void SetUp() override {
    const char* accelerator = std::getenv("MAYFLY_ACCEL");  // NOLINT(concurrency-mt-unsafe): one thread
    if (accelerator == nullptr || std::string_view(accelerator) != "kvm") {
      GTEST_SKIP() << "not verified here: run it by mayfly host, or where KVM works with MAYFLY_ACCEL=kvm";
    }
    try {
      FindCloudHypervisor();
    } catch (const HostLacks& error) {
      GTEST_SKIP() << "not verified here: " << error.what();
    }
    internal::UseOwnTemplates(directory_ / "cache");
    setenv("MAYFLY_POOL", "off", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  void TearDown() override {
    for (const char* name : {"MAYFLY_POOL", "MAYFLY_CACHE_DIR", "MAYFLY_CH_RESTORE"}) {
      unsetenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    }
  }

  static MachineSpec Spec() { return {.memory = 192_MiB, .disks = {{.id = "data", .size = 16_MiB}}, .driver = "ch"}; }

  internal::TestDirectory directory_;
};

TEST_F(RealGuestFork, EachHasNamesRandomNumbersAndDisksOfItsOwnAndSharesTheMemory) {
  auto prepare = [](Vm& vm) {
    Out(vm, "head -c 60m /dev/urandom > /run/filled; echo blue | dd of=/dev/vda conv=notrunc 2>/dev/null");
    return true;
  };
  Preparation preparation{.identity = "filled", .run = prepare};
  Vm one = Vm::Fork(Spec(), preparation);
  Vm two = Vm::Fork(Spec(), preparation);
  EXPECT_NE(Out(one, "hostname"), Out(two, "hostname"));
  EXPECT_NE(Out(one, "cat /etc/machine-id"), Out(two, "cat /etc/machine-id"));
  std::set<std::string> drawn;
  for (Vm* vm : {&one, &two}) {
    drawn.insert(Out(*vm, "head -c 16 /dev/urandom | od -An -tx1"));
    drawn.insert(Out(*vm, "cat /proc/sys/kernel/random/uuid"));
    EXPECT_EQ(Out(*vm, "head -n 1 /dev/vda"), "blue\n") << "what the template wrote";
  }
  EXPECT_EQ(drawn.size(), 4U);
  for (Vm* vm : {&one, &two}) EXPECT_LE(PrivateMemory(vm->machine().Info().pid), 24) << "of 192 MiB, 60 of them random";
  Out(one, "echo red | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null");
  EXPECT_EQ(Out(two, "head -n 1 /dev/vda"), "blue\n");
  // It is a machine as any other: it restarts as itself, and after a power cut has what it synced.
  std::string name = Out(one, "hostname");
  one.Kill();
  one.Boot();
  EXPECT_EQ(Out(one, "hostname; head -n 1 /dev/vda"), name + "red\n");
}

TEST_F(RealGuestFork, AForkOfAForkHasWhatBothHad) {
  Vm fork = Vm::Fork(Spec());
  Out(fork, "echo first > /run/first");
  Vm clone = fork.Clone();
  Out(clone, "echo second > /run/second");
  Vm last = clone.Clone();
  EXPECT_EQ(Out(last, "cat /run/first /run/second"), "first\nsecond\n");
  EXPECT_FALSE(fork.Stat("/run/second"));
  EXPECT_NE(Out(fork, "hostname"), Out(last, "hostname"));
  EXPECT_EQ(Out(fork, "cat /run/first"), "first\n") << "the first one goes on";
}

TEST_F(RealGuestFork, WhatItWroteToADiskIsThereAfterItWentBack) {
  Vm vm = Vm::Fork(Spec());
  // Past the guest's cache, and without a flush: the VMM alone knows where it is in its qcow2 image.
  Out(vm, "yes blue | head -c 1m | dd of=/dev/vda bs=64k oflag=direct seek=3 conv=notrunc 2>/dev/null");
  std::string sum = Out(vm, "dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | sha256sum");
  vm.Snapshot("saved");
  Out(vm, "yes red | head -c 2m | dd of=/dev/vda bs=64k oflag=direct conv=notrunc 2>/dev/null");
  vm.Revert("saved");
  EXPECT_EQ(Out(vm, "dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | sha256sum"), sum);
}

TEST_F(RealGuestFork, MemoryCanBeReadOrFetchedOnDemandInstead) {
  for (const char* mode : {"copy", "on-demand"}) {
    setenv("MAYFLY_CH_RESTORE", mode, 1);  // NOLINT(concurrency-mt-unsafe): one thread
    Vm fork = Vm::Fork(Spec());
    EXPECT_EQ(Out(fork, "echo $((6 * 7))"), "42\n") << mode;
  }
  setenv("MAYFLY_CH_RESTORE", "telepathy", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_THROW(Vm::Fork(Spec()), BadSpec);
}

TEST_F(RealGuestFork, TheProcessesOfTheTemplateGoOnAndTimeIsThatOfNow) {
  Vm fork = Vm::Fork(Spec(), {.identity = "counts", .run = [](Vm& vm) {
                                Out(vm,
                                    "setsid sh -c 'while :; do date +%s > /run/t.new; mv /run/t.new /run/t; sleep 1; "
                                    "done' > /dev/null 2>&1 &");
                                vm.WaitForFile("/run/t", seconds(20));
                                return true;
                              }});
  auto now = [] {
    return std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  int64_t before = now();
  EXPECT_GE(std::stoll(Out(fork, "date +%s")), before);
  EXPECT_TRUE(fork.WaitUntilSucceeds(fmt::format("[ $(cat /run/t) -ge {} ]", before), seconds(30)).ok());
}

TEST_F(RealGuestFork, WhatCannotBeCopiedIsBootedAndSaysWhy) {
  MachineSpec spec = Spec();
  std::ofstream(directory_ / "own") << std::string(size_t{1} << 20, '\0');
  spec.disks = {{.id = "own", .path = directory_ / "own", .clone = false}};
  Vm vm = Vm::Fork(spec);
  std::string why;
  for (const Event& event : vm.machine().timeline().Events()) {
    if (event.name == "no-fork") why = event.detail;
  }
  EXPECT_THAT(why, HasSubstr("'own'"));
}

}  // namespace
}  // namespace mayfly::ch
