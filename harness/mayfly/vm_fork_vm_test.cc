// Forks, snapshots and clones of real guests.
#include <mayfly/vm.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/own_templates.h>
#include <mayfly/internal/test_directory.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace mayfly {
namespace {

using internal::TestDirectory;
using literals::operator""_MiB;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kAskedMac = "52:54:00:12:34:56";
constexpr const char* kShowMacs = "cat /sys/class/net/*/address";

std::string Out(Vm& vm, const std::string& command) { return vm.Exec(command).OrThrow().out; }

MachineSpec Small() { return {.memory = 128_MiB}; }

// A preparation that says in a file of the host how often it has run.
class Counted {
 public:
  explicit Counted(std::string identity) : identity_(std::move(identity)) {}
  Preparation Get(const std::function<void(Vm&)>& what = {}) {
    return {.identity = identity_, .run = [this, what](Vm& vm) {
              ++runs;
              vm.WriteFile("/prepared", identity_);
              if (what) what(vm);
              return true;
            }};
  }
  int runs = 0;

 private:
  std::string identity_;
};

// What is prepared here nobody needs afterwards, so it goes to a cache of its own, and no daemon keeps forks of it.
class PreparedFork : public testing::Test {
 protected:
  void SetUp() override {
    internal::UseOwnTemplates(directory_ / "cache");
    setenv("MAYFLY_POOL", "off", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  void TearDown() override {
    for (const char* name : {"MAYFLY_POOL", "MAYFLY_CACHE_DIR"}) unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
  }

  TestDirectory directory_;
};

std::string WhyNoFork(Vm& vm) {
  for (const Event& event : vm.machine().timeline().Events()) {
    if (event.name == "no-fork") return event.detail;
  }
  return {};
}

TEST(Fork, IsReadyAndHasANameOfItsOwn) {
  Vm one = Vm::Fork(Small());
  Vm two = Vm::Fork(Small());
  EXPECT_EQ(one.status().state, MachineState::kReady);
  EXPECT_EQ(Out(one, "hostname"), one.name() + "\n");
  EXPECT_NE(one.name(), two.name());
  EXPECT_NE(Out(one, "cat /etc/machine-id"), Out(two, "cat /etc/machine-id"));
  MachineSpec named = Small();
  named.name = "kv";
  EXPECT_EQ(Out(*std::make_unique<Vm>(Vm::Fork(named)), "hostname"), "kv\n");
}

TEST(Fork, SiblingsDrawDifferentRandomNumbers) {
  std::set<std::string> drawn;
  for (int i = 0; i < 6; ++i) {
    Vm vm = Vm::Fork(Small());
    drawn.insert(Out(vm, "head -c 32 /dev/urandom | od -An -tx1"));
    drawn.insert(Out(vm, "cat /proc/sys/kernel/random/uuid"));
  }
  EXPECT_EQ(drawn.size(), 12U);
}

TEST_F(PreparedFork, AProcessThatRunsInTheTemplateDrawsNothingBeforeTheForkHasEntropy) {
  Counted prepare("drawing");
  // It draws as fast as it can all the time; the first numbers that a fork's process draws are the last in the file.
  auto draw = [](Vm& vm) {
    vm.Exec(
          "setsid sh -c 'while :; do cat /proc/sys/kernel/random/uuid > /tmp/u; mv /tmp/u /tmp/last; done' "
          ">/dev/null 2>&1 &")
        .OrThrow();
    vm.WaitForFile("/tmp/last", std::chrono::seconds(20));
  };
  std::set<std::string> seen;
  for (int i = 0; i < 3; ++i) {
    Vm vm = Vm::Fork(Small(), prepare.Get(draw));
    seen.insert(Out(vm, "a=$(cat /tmp/last); while [ \"$(cat /tmp/last)\" = \"$a\" ]; do :; done; cat /tmp/last"));
  }
  EXPECT_EQ(seen.size(), 3U);
}

TEST(Fork, ClockIsTheHostsWithinFiftyMilliseconds) {
  Vm vm = Vm::Fork(Small());
  auto host = [] { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); };
  double best = 1;
  for (int i = 0; i < 5; ++i) {  // the guest's answer takes its time; the quickest tells most
    double before = host();
    // busybox's date has no nanoseconds.
    double guest =
        std::stod(Out(vm, "adjtimex | awk '/time.tv_sec/{s=$2}/time.tv_usec/{u=$2}END{printf \"%d.%06d\", s, u}'"));
    double after = host();
    if (guest < before) best = std::min(best, before - guest);
    if (guest > after) best = std::min(best, guest - after);
    if (guest >= before && guest <= after) best = 0;
  }
  EXPECT_LT(best, 0.05);
}

TEST_F(PreparedFork, PreparationRunsOnceAndEveryForkStartsFromIt) {
  Counted prepare("once");
  for (int i = 0; i < 3; ++i) {
    Vm vm = Vm::Fork(Small(), prepare.Get());
    EXPECT_THAT(Out(vm, "cat /prepared"), HasSubstr("once"));
    EXPECT_FALSE(vm.Stat("/left-behind"));
    vm.WriteFile("/left-behind", "x");
  }
  EXPECT_EQ(prepare.runs, 1);
}

TEST_F(PreparedFork, HasAddressesOfItsOwn) {
  Counted prepare("addresses");
  MachineSpec spec = Small();
  spec.nics = {{.id = "nic", .kind = NicKind::kNone}};
  std::set<std::string> addresses;
  auto note = [&](Vm& vm) { addresses.insert(Out(vm, "cat /sys/class/net/eth0/address")); };
  for (int i = 0; i < 2; ++i) {
    Vm vm = Vm::Fork(spec, prepare.Get(note));
    note(vm);
    EXPECT_EQ(Out(vm, "cat /sys/class/net/eth0/address"), vm.machine().spec().nics[0].mac + "\n");
  }
  EXPECT_EQ(addresses.size(), 3U);
}

TEST_F(PreparedFork, IsPreparedAgainWhenAnUploadedFileHasChanged) {
  std::ofstream(directory_ / "program") << "first";
  Counted prepare("upload");
  auto upload = [&](Vm& vm) { vm.Upload(directory_ / "program", "/program"); };
  {
    Vm vm = Vm::Fork(Small(), prepare.Get(upload));
    EXPECT_EQ(Out(vm, "cat /program"), "first");
  }
  std::ofstream(directory_ / "program") << "second, and longer";
  Vm vm = Vm::Fork(Small(), prepare.Get(upload));
  EXPECT_EQ(Out(vm, "cat /program"), "second, and longer");
  EXPECT_EQ(prepare.runs, 2);
}

TEST_F(PreparedFork, APreparationThatFailsIsToldAndTriedAgain) {
  Counted prepare("failing");
  auto fail = [](Vm& vm) { vm.Exec("false").OrThrow(); };
  EXPECT_THROW(Vm::Fork(Small(), prepare.Get(fail)), GuestFailed);
  EXPECT_THROW(Vm::Fork(Small(), prepare.Get(fail)), GuestFailed);
  EXPECT_EQ(prepare.runs, 2);
}

TEST(Fork, BootsInsteadWhereCopiesCannotBeMade) {
  TestDirectory directory;
  std::ofstream(directory / "disk.raw") << std::string(1 << 20, '\0');
  MachineSpec spec = Small();
  spec.disks.push_back({.id = "own", .path = directory / "disk.raw", .clone = false});
  Vm vm = Vm::Fork(spec);
  EXPECT_EQ(Out(vm, "echo here"), "here\n");
  EXPECT_THAT(WhyNoFork(vm), HasSubstr("disk 'own' writes to"));
}

TEST(Fork, IsBootedAheadWhereADeviceCannotBeSaved) {
  // Read when the pool of this process begins, in which nothing has been asked for so far.
  setenv("MAYFLY_POOL", "off", 1);     // NOLINT(concurrency-mt-unsafe): one thread
  setenv("MAYFLY_POOL_WARM", "1", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  setenv("MAYFLY_QEMU_ARGS", "-blockdev driver=null-co,node-name=n0,size=1048576 -device nvme,drive=n0,serial=1", 1);
  MachineSpec spec = Small();
  spec.machine = MachineKind::kPc;
  Counted prepare("each");
  std::set<std::string> names;
  for (int i = 0; i < 3; ++i) {
    Vm vm = Vm::Fork(spec, prepare.Get());
    EXPECT_THAT(WhyNoFork(vm), AllOf(HasSubstr("State blocked by non-migratable device"), HasSubstr("nvme")));
    EXPECT_EQ(Out(vm, "cat /prepared"), "each");
    EXPECT_EQ(Out(vm, "hostname"), vm.name() + "\n");
    names.insert(vm.name());
    // The first begins what the others find.
    bool booted_here = false;
    for (const Event& event : vm.machine().timeline().Events()) booted_here |= event.detail.starts_with("Starting");
    EXPECT_EQ(booted_here, i == 0);
  }
  EXPECT_EQ(names.size(), 3U);
  EXPECT_EQ(prepare.runs, 3);
  for (const char* name : {"MAYFLY_POOL", "MAYFLY_POOL_WARM", "MAYFLY_QEMU_ARGS"}) unsetenv(name);
}

TEST(Fork, KeepsItsDiskOverAPowerCutAndItsConsoleFromTheBeginning) {
  MachineSpec spec = Small();
  spec.disks.push_back({.id = "data", .size = 16_MiB});
  Vm vm = Vm::Fork(spec);
  vm.Exec("mke2fs -q /dev/vda && mount /dev/vda /mnt && echo kept > /mnt/note && sync").OrThrow();
  EXPECT_THAT(vm.console(), HasSubstr("VMRS_READY")) << "of the template's boot";
  vm.Kill();
  vm.Boot();
  EXPECT_EQ(Out(vm, "mount /dev/vda /mnt && cat /mnt/note"), "kept\n");
}

TEST(Snapshot, RevertBringsMemoryAndDisksBack) {
  MachineSpec spec = Small();
  spec.disks.push_back({.id = "data", .size = 16_MiB});
  Vm vm = Vm::Fork(spec);
  std::string name = vm.name();
  vm.Exec("echo one > /tmp/memory; echo one > /dev/vda").OrThrow();
  vm.Snapshot("one");
  vm.Exec("echo two > /tmp/memory; echo two > /dev/vda; sync").OrThrow();
  vm.Snapshot("two");
  vm.Revert("one");
  EXPECT_EQ(Out(vm, "cat /tmp/memory; head -c 4 /dev/vda; hostname"), "one\none\n" + name + "\n");
  vm.Revert("two");
  EXPECT_EQ(Out(vm, "cat /tmp/memory; head -c 4 /dev/vda"), "two\ntwo\n");
  vm.Revert("one");
  EXPECT_EQ(Out(vm, "cat /tmp/memory"), "one\n");
}

TEST(Snapshot, RevertKeepsAnAddressThatNobodyAskedForAndClonesGetOthers) {
  MachineSpec spec = Small();
  spec.nics = {{.id = "made-up", .kind = NicKind::kNone}, {.id = "asked", .kind = NicKind::kNone, .mac = kAskedMac}};
  Vm vm = Vm::Fork(spec);
  std::string made_up = vm.machine().spec().nics[0].mac;
  vm.Snapshot("here");
  vm.Revert("here");
  EXPECT_EQ(vm.machine().spec().nics[0].mac, made_up);
  EXPECT_THAT(Out(vm, kShowMacs), AllOf(HasSubstr(made_up), HasSubstr(kAskedMac)));
  Vm clone = vm.Clone();
  std::string own = clone.machine().spec().nics[0].mac;
  EXPECT_NE(own, made_up);
  EXPECT_THAT(Out(clone, kShowMacs), AllOf(HasSubstr(own), HasSubstr(kAskedMac)));
}

TEST(Snapshot, WrongNamesAreToldWithTheKnownOnes) {
  Vm vm = Vm::Fork(Small());
  EXPECT_THROW(vm.Snapshot("../escape"), BadSpec);
  vm.Snapshot("clean");
  EXPECT_THROW(vm.Snapshot("clean"), BadSpec);
  try {
    vm.Revert("cleen");
    FAIL() << "there is none of that name";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("there are: clean"));
  }
  EXPECT_EQ(Out(vm, "echo unharmed"), "unharmed\n");
}

TEST(Clone, GoesOnFromHereAndThenItsOwnWay) {
  Vm vm = Vm::Fork(Small());
  vm.WriteFile("/tmp/note", "before");
  Vm clone = vm.Clone();
  vm.WriteFile("/tmp/note", "original");
  clone.WriteFile("/tmp/note", clone.ReadFile("/tmp/note") + ", then clone");
  EXPECT_EQ(vm.ReadFile("/tmp/note"), "original");
  clone.Exec("echo of the clone > /dev/console").OrThrow();
  clone.WaitForConsole("of the clone", std::chrono::seconds(20));
  EXPECT_THAT(clone.console(), HasSubstr("VMRS_READY"));
  EXPECT_EQ(clone.ReadFile("/tmp/note"), "before, then clone");
  EXPECT_EQ(Out(clone, "hostname"), clone.name() + "\n");
  EXPECT_NE(clone.name(), vm.name());
  Vm third = clone.Clone();
  EXPECT_EQ(third.ReadFile("/tmp/note"), "before, then clone");
}

}  // namespace
}  // namespace mayfly
