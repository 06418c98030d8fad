// Saved machines and their copies, below Vm: what a driver does for templates and forks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/agent.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/snapshot.h>

#include <chrono>
#include <fstream>

namespace mayfly::internal {
namespace {

using literals::operator""_MiB;
using std::chrono::seconds;

Deadline Soon() { return Deadline::After(Scaled(seconds(60))); }

// A machine and the agent in its guest.
struct Guest {
  std::unique_ptr<Machine> machine{};
  std::unique_ptr<Agent> agent{};

  void Connect() {
    agent = std::make_unique<Agent>(machine->ConnectAgent(), machine->timeline(), AgentOptions{machine->name(), {}});
    agent->WaitForHello(Soon());
  }
  std::string Run(const std::string& command) { return agent->Exec(command).OrThrow().out; }
};

class QemuSnapshot : public testing::Test {
 protected:
  static std::unique_ptr<Machine> Create(const MachineSpec& spec) {
    std::string name = spec.name;
    return FindDriver("qemu").Create(spec, Sandbox::Create(name));
  }

  static Guest Boot(MachineSpec spec, const std::filesystem::path& memory = {}) {
    Guest guest{.machine = Create(ResolveImage(std::move(spec)))};
    if (!memory.empty()) guest.machine->KeepMemoryIn(memory);
    guest.machine->Boot();
    guest.Connect();
    return guest;
  }

  static Guest Copy(const std::filesystem::path& snapshot, const std::string& name,
                    const std::filesystem::path& memory = {}) {
    Guest guest{.machine = Create(SpecOfCopy(ReadSnapshot(snapshot), name))};
    if (!memory.empty()) guest.machine->KeepMemoryIn(memory);
    guest.machine->Restore(snapshot);
    guest.Connect();
    guest.agent->FixUp({.hostname = name});
    return guest;
  }

  static void Save(Guest& guest, const std::filesystem::path& directory) {
    guest.agent->Quiesce();
    guest.machine->Snapshot(directory);
  }

  TestDirectory directory_;
};

TEST_F(QemuSnapshot, CopiesOfATemplateGoOnFromItAndKeepTheirWritesToThemselves) {
  Guest first = Boot({.memory = 128_MiB, .name = "first", .disks = {{.id = "data", .size = 8_MiB}}}, directory_ / "m");
  first.Run("echo saved > /tmp/note; echo on-disk > /dev/vda");
  Save(first, directory_ / "template");
  EXPECT_EQ(first.machine->status().state, MachineState::kStopped) << "its memory belongs to the copies now";

  Guest one = Copy(directory_ / "template", "one");
  Guest two = Copy(directory_ / "template", "two");
  one.Run("echo changed > /tmp/note; echo changed > /dev/vda; sync");
  EXPECT_EQ(two.Run("cat /tmp/note; head -c 8 /dev/vda; hostname"), "saved\non-disk\ntwo\n");
  EXPECT_EQ(one.Run("cat /tmp/note; head -c 8 /dev/vda; hostname"), "changed\nchanged\none\n");
  EXPECT_EQ(Copy(directory_ / "template", "three").Run("cat /tmp/note"), "saved\n");
}

TEST_F(QemuSnapshot, AMachineThatIsSavedGoesOnAndSoDoesItsCopyWhateverTheirMemoryIs) {
  Guest first = Boot({.memory = 128_MiB, .name = "first"});
  first.Run("(while :; do i=$((i+1)); echo $i > /tmp/new; mv /tmp/new /tmp/count; done) >/dev/null 2>&1 &");
  Save(first, directory_ / "saved");
  first.agent->FixUp();
  Guest copy = Copy(directory_ / "saved", "copy");
  for (Guest* guest : {&first, &copy}) {
    EXPECT_EQ(guest->Run("a=$(cat /tmp/count); while [ $(cat /tmp/count) -le $a ]; do :; done; echo counts"),
              "counts\n");
  }
  first.machine->Kill();
  EXPECT_EQ(copy.Run("echo alone"), "alone\n");
}

TEST_F(QemuSnapshot, ACopyBecomesATemplateOfItsOwn) {
  Guest first = Boot({.memory = 128_MiB, .name = "first"}, directory_ / "m");
  Save(first, directory_ / "template");
  Guest second = Copy(directory_ / "template", "second", directory_ / "m2");
  second.Run("echo second > /tmp/note");
  Save(second, directory_ / "of-the-copy");
  EXPECT_TRUE(ReadSnapshot(directory_ / "of-the-copy").shared_memory);
  EXPECT_EQ(Copy(directory_ / "of-the-copy", "third").Run("cat /tmp/note"), "second\n");
  EXPECT_EQ(Copy(directory_ / "template", "fourth").Run("ls /tmp"), "");
}

TEST_F(QemuSnapshot, ACopyRebootsAndBootsAgainLikeAnyMachine) {
  Guest first = Boot({.memory = 128_MiB, .name = "first"}, directory_ / "m");
  Save(first, directory_ / "template");
  Guest copy = Copy(directory_ / "template", "copy");
  uint64_t session = copy.agent->hello()->session;
  copy.agent->Reboot(Soon());
  copy.agent->WaitForHello(Soon(), session);
  EXPECT_EQ(copy.Run("hostname"), "copy\n");
  copy.machine->Kill();
  copy.machine->Boot();
  copy.Connect();
  EXPECT_EQ(copy.Run("hostname"), "copy\n");
}

TEST_F(QemuSnapshot, CopiesHaveAddressesOfTheirOwnUnlessOneWasAskedFor) {
  MachineSpec spec{.memory = 128_MiB, .name = "first"};
  spec.nics = {{.id = "made-up", .kind = NicKind::kNone},
               {.id = "asked", .kind = NicKind::kNone, .mac = "52:54:00:12:34:56"}};
  Guest first = Boot(spec, directory_ / "m");
  std::string old = first.machine->spec().nics[0].mac;
  Save(first, directory_ / "template");
  MachineSpec copy = Create(SpecOfCopy(ReadSnapshot(directory_ / "template"), "copy"))->spec();
  EXPECT_NE(copy.nics[0].mac, old);
  EXPECT_EQ(copy.nics[1].mac, "52:54:00:12:34:56");

  Guest guest = Copy(directory_ / "template", "second");
  std::string own = guest.machine->spec().nics[0].mac;
  guest.agent->FixUp({.macs = {{old, own}}});
  EXPECT_THAT(guest.Run("cat /sys/class/net/*/address"),
              testing::AllOf(testing::HasSubstr(own), testing::HasSubstr("52:54:00:12:34:56"),
                             testing::Not(testing::HasSubstr(old))));
}

TEST_F(QemuSnapshot, ARunningMachineIsHandedOver) {
  Guest giver = Boot({.memory = 128_MiB, .name = "given"});
  giver.Run("echo here > /tmp/note");
  pid_t pid = giver.machine->Info().pid;
  UniqueFd channel = giver.agent->Release().channel;
  ReleasedMachine released = giver.machine->Release();
  giver.agent.reset();
  giver.machine.reset();

  Guest taker{.machine = FindDriver("qemu").Adopt(std::move(released), std::move(channel))};
  taker.Connect();
  EXPECT_EQ(taker.machine->Info().pid, pid);
  EXPECT_EQ(taker.Run("cat /tmp/note"), "here\n");
  taker.machine->Pause();
  EXPECT_TRUE(taker.machine->status().paused);
  taker.machine->Resume();
  taker.machine->Kill();
  EXPECT_EQ(taker.machine->status().state, MachineState::kStopped);
}

TEST_F(QemuSnapshot, WhatCannotBeRestoredIsToldBeforeAnythingStarts) {
  Guest first = Boot({.memory = 128_MiB, .name = "first"});
  Save(first, directory_ / "saved");
  first.agent->FixUp();
  EXPECT_THROW(first.machine->Snapshot(directory_ / "saved"), BadSpec) << "the directory is there";
  EXPECT_EQ(first.Run("echo unharmed"), "unharmed\n");
  MachineSpec copy = SpecOfCopy(ReadSnapshot(directory_ / "saved"), "copy");

  SnapshotInfo info = ReadSnapshot(directory_ / "saved");
  info.vmm = "QEMU 1.2.3";
  WriteSnapshot(info);
  try {
    Create(copy)->Restore(directory_ / "saved");
    FAIL() << "another version saved it";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("QEMU 1.2.3"), testing::HasSubstr("here it is QEMU")));
  }
  EXPECT_THROW(Create(copy)->Restore(directory_ / "nothing"), BadSpec);
}

TEST_F(QemuSnapshot, ADamagedStateIsToldInQemusWords) {
  Guest first = Boot({.memory = 128_MiB, .name = "first"});
  Save(first, directory_ / "saved");
  first.agent->FixUp();
  std::ofstream(directory_ / "saved" / "state") << "no state";
  std::unique_ptr<Machine> copy = Create(SpecOfCopy(ReadSnapshot(directory_ / "saved"), "copy"));
  EXPECT_THROW(copy->Restore(directory_ / "saved"), Error);
  EXPECT_EQ(copy->status().state, MachineState::kFailed);
}

}  // namespace
}  // namespace mayfly::internal
