// How a machine takes what its VMM does and does not do, shown with a program that plays one (scripted_vmm.cc).
#include "drivers/ch/ch_machine.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/error_of_fixture.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unix_listener.h>
#include <poll.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <string_view>

#include "drivers/ch/program.h"

namespace mayfly::ch {
namespace {

namespace fs = std::filesystem;
using internal::ErrorOf;
using literals::operator""_MiB;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ScriptedMachine : public testing::Test {
 protected:
  void SetUp() override {
    setenv("MAYFLY_SCRIPTED_VMM", script().c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
    std::ofstream(directory_ / "kernel") << "a kernel";
  }
  void TearDown() override {
    unsetenv("MAYFLY_SCRIPTED_VMM");  // NOLINT(concurrency-mt-unsafe): one thread
  }

  fs::path script() const { return directory_ / "script"; }

  std::unique_ptr<ChMachine> Make(const std::string& rules, int major = 53) {
    std::ofstream(script()) << rules;
    Program program{.path = MAYFLY_SCRIPTED_VMM, .version = "v" + std::to_string(major) + ".0.0", .major = major};
    MachineSpec spec{.memory = 64_MiB, .name = "scripted", .boot = {.kernel = directory_ / "kernel"}, .agent = agent_};
    return std::make_unique<ChMachine>(program, spec, Sandbox::Create("scripted"), patience_);
  }

  std::unique_ptr<ChMachine> Boot(const std::string& rules, int major = 53) {
    auto machine = Make(rules, major);
    machine->Boot();
    return machine;
  }

  std::string Requests() const { return internal::ReadWholeFile(script().native() + ".requests", 1 << 20); }

  // From the next machine on, what waits for a minute waits for a moment.
  void BeImpatient() {
    constexpr auto kMoment = std::chrono::milliseconds(300);
    patience_ = {.call = kMoment, .save = kMoment, .guest = kMoment};
  }

  bool agent_ = false;
  Patience patience_{};
  internal::TestDirectory directory_;
};

// --- Start ----------------------------------------------------------------------------------------------------------

TEST_F(ScriptedMachine, BootsByTwoRequests) {
  auto machine = Boot("");
  EXPECT_EQ(machine->status().state, MachineState::kRunning);
  EXPECT_EQ(Requests(), "PUT vm.create\nPUT vm.boot\n");
}

struct RefusalRow {
  const char* rules;
  const char* kind;
  const char* told;
};

TEST_F(ScriptedMachine, ARefusedBootSaysWhoseFaultItIsAndLeavesNothingBehind) {
  for (const RefusalRow& row : {
           RefusalRow{"vm.boot 500 [\"The VM could not boot\",\"Error locking disk images\"]", "HostLacks",
                      "in use by another process"},
           RefusalRow{"vm.boot 500 [\"The VM could not boot\",\"Cannot open kernel file\"]", "BadSpec",
                      "cannot open its kernel"},
           RefusalRow{"vm.boot 500 [\"The VM could not boot\",\"Cannot allocate memory (os error 12)\"]", "HostLacks",
                      "not enough memory"},
           RefusalRow{"vm.boot 400 [\"Failed to validate config\",\"nobody knows\"]", "BadSpec", "configuration"},
           RefusalRow{"vm.create 500 [\"Something else\"]", "VmmDied", "Something else"},
           RefusalRow{"vm.create exit 1", "VmmDied", "exit code 1"},
           RefusalRow{"vm.boot exit 0", "VmmDied", "exit code 0"},
       }) {
    auto machine = Make(row.rules);
    try {
      machine->Boot();
      ADD_FAILURE() << row.rules << ": it booted";
    } catch (const Error& error) {
      EXPECT_STREQ(error.kind(), row.kind) << row.rules;
      EXPECT_THAT(error.what(), AllOf(HasSubstr("cannot boot 'scripted' (ch)"), HasSubstr(row.told)));
    }
    EXPECT_EQ(machine->status().state, MachineState::kFailed);
    machine->Kill();
    std::ofstream(script()) << "";
    machine->Boot();  // the state is clean for the next try
    EXPECT_EQ(machine->status().state, MachineState::kRunning);
  }
}

TEST_F(ScriptedMachine, AVmmThatDoesNotAnswerIsEnded) {
  BeImpatient();
  auto machine = Make("vm.boot hang");
  EXPECT_THAT(ErrorOf<VmmDied>([&] { machine->Boot(); }), HasSubstr("did not answer 'vm.boot' in time"));
  EXPECT_EQ(machine->status().state, MachineState::kFailed);
  // Ended: its directory can go, and another boot finds nobody on its sockets.
  std::ofstream(script()) << "";
  machine->Boot();
  EXPECT_EQ(machine->status().state, MachineState::kRunning);
}

TEST_F(ScriptedMachine, SocketsThatAKilledVmmLeftAreNoHindrance) {
  auto machine = Make("");
  for (const char* name : {"api.sock", "vsock.sock", "vsock.sock_28006", "serial.sock"}) {
    internal::UniqueFd stale = internal::ListenOn(machine->sandbox().Path(name));
  }
  machine->Boot();
  EXPECT_EQ(machine->status().state, MachineState::kRunning);
}

// --- While it runs --------------------------------------------------------------------------------------------------

TEST_F(ScriptedMachine, AnEndThatNobodyAskedForIsAFailureWithExitCodeZeroToo) {
  auto machine = Boot("vm.counters exit 0");
  EXPECT_THAT(ErrorOf<VmmDied>([&] { machine->Counters(); }), HasSubstr("exit code 0"));
  EXPECT_EQ(machine->status().state, MachineState::kFailed);
  EXPECT_THAT(machine->status().reason, HasSubstr("Cloud Hypervisor ended: exit code 0"));
}

struct DeathRow {
  const char* endpoint;
  void (*call)(ChMachine& machine, const fs::path& directory);
};

TEST_F(ScriptedMachine, AVmmThatIsKilledInACallIsAFailureThatSaysHowItEndedAndCanBeBootedAgain) {
  for (const DeathRow& row : {
           DeathRow{"vm.create", [](ChMachine& m, const fs::path&) { m.Boot(); }},
           DeathRow{"vm.boot", [](ChMachine& m, const fs::path&) { m.Boot(); }},
           DeathRow{"vm.reboot", [](ChMachine& m, const fs::path&) { m.Reset(); }},
           DeathRow{"vm.pause", [](ChMachine& m, const fs::path&) { m.Pause(); }},
           DeathRow{"vm.resize", [](ChMachine& m, const fs::path&) { m.ResizeCpus(1); }},
           DeathRow{"vm.add-disk", [](ChMachine& m, const fs::path&) { m.AddDisk({.id = "hot", .size = 1_MiB}); }},
           DeathRow{"vm.snapshot", [](ChMachine& m, const fs::path& d) { m.Snapshot(d / "saved"); }},
           DeathRow{"vm.nmi", [](ChMachine& m, const fs::path&) { m.InjectNmi(); }},
       }) {
    auto machine = Make(std::string(row.endpoint) + " signal 9");
    EXPECT_THAT(ErrorOf<VmmDied>([&] {
                  if (std::string_view(row.endpoint) != "vm.create" && std::string_view(row.endpoint) != "vm.boot") {
                    machine->Boot();
                  }
                  row.call(*machine, directory_.path());
                }),
                HasSubstr("SIGKILL"))
        << row.endpoint;
    EXPECT_EQ(machine->status().state, MachineState::kFailed) << row.endpoint;
    EXPECT_FALSE(fs::exists(directory_ / "saved")) << row.endpoint;
    std::ofstream(script()) << "";
    machine->Boot();
    EXPECT_EQ(machine->status().state, MachineState::kRunning) << row.endpoint;
  }
}

TEST_F(ScriptedMachine, AVmmWhoseSeccompFilterDeniesACallSaysThatItWasThat) {
  auto machine = Boot("vm.counters signal 31");
  EXPECT_THAT(ErrorOf<VmmDied>([&] { machine->Counters(); }), HasSubstr("seccomp"));
  EXPECT_EQ(machine->status().state, MachineState::kFailed);
}

TEST_F(ScriptedMachine, ARemovalThatTheGuestNeverAcknowledgesIsToldInTime) {
  BeImpatient();
  auto machine = Boot("");
  machine->AddDisk({.id = "hot", .size = 1_MiB});
  EXPECT_THAT(ErrorOf<Timeout>([&] { machine->RemoveDevice("hot"); }), HasSubstr("'hot'"));
  EXPECT_EQ(machine->status().state, MachineState::kRunning) << "the machine goes on";
}

TEST_F(ScriptedMachine, ADeviceThatIsRefusedLeavesNoFile) {
  auto machine = Boot("vm.add-disk 500 [\"The disk could not be added\"]");
  EXPECT_THROW(machine->AddDisk({.id = "hot", .size = 1_MiB}), Error);
  EXPECT_FALSE(fs::exists(machine->sandbox().Path("disk-hot.raw")));
  EXPECT_THROW(machine->RemoveDevice("hot"), BadSpec);
}

TEST_F(ScriptedMachine, AGuestThatPowersOffEndsTheVmm) {
  auto machine = Boot("vm.counters 204 vm/shutdown");
  EXPECT_THROW(machine->Counters(), Error);  // an answer without a body; the guest is off by then
  machine->WaitForStatus([](const MachineStatus& s) { return s.state == MachineState::kStopped; }, "power off",
                         Deadline::After(seconds(20)));
  EXPECT_EQ(machine->status().reason, "the guest powered off");
}

// --- Snapshots ------------------------------------------------------------------------------------------------------

TEST_F(ScriptedMachine, IsSavedWhileItStandsStill) {
  auto machine = Boot("");
  machine->Snapshot(directory_ / "saved");
  EXPECT_THAT(Requests(), HasSubstr("PUT vm.pause\nPUT vm.snapshot\nPUT vm.resume\n"));
  EXPECT_FALSE(machine->status().paused);
  EXPECT_EQ(ReadSnapshot(directory_ / "saved").driver, "ch");
  EXPECT_THROW(machine->Snapshot(directory_ / "saved"), BadSpec) << "it is there";
}

TEST_F(ScriptedMachine, APausedOneStaysPaused) {
  auto machine = Boot("");
  machine->Pause();
  machine->Snapshot(directory_ / "saved");
  EXPECT_TRUE(machine->status().paused);
}

TEST_F(ScriptedMachine, ATemplateEndsInOrder) {
  auto machine = Make("");
  machine->KeepMemoryIn(directory_ / "memory");
  machine->Boot();
  machine->Snapshot(directory_ / "saved");
  EXPECT_THAT(Requests(), HasSubstr("PUT vm.snapshot\nPUT vm.delete\n"));
  EXPECT_EQ(machine->status().state, MachineState::kStopped);
  EXPECT_EQ(machine->status().reason, "saved as a template");
}

TEST_F(ScriptedMachine, AFullDiskLeavesNoHalfSnapshotAndAGuestThatGoesOn) {
  auto machine =
      Boot("vm.snapshot 500 [\"The snapshot could not be taken\",\"No space left on device (os error 28)\"]");
  EXPECT_THAT(ErrorOf<HostLacks>([&] { machine->Snapshot(directory_ / "saved"); }), HasSubstr("No space left"));
  EXPECT_FALSE(fs::exists(directory_ / "saved"));
  EXPECT_FALSE(machine->status().paused);
  EXPECT_EQ(machine->status().state, MachineState::kRunning);
}

TEST_F(ScriptedMachine, IsNotSavedByAVersionWhoseCopiesKeepTheirConnections) {
  auto machine = Boot("", 51);
  EXPECT_THAT(ErrorOf<Unsupported>([&] { machine->Snapshot(directory_ / "saved"); }), HasSubstr("vsock"));
}

TEST_F(ScriptedMachine, GoesOnFromASnapshotInTwoRequestsOfAnotherProcess) {
  Boot("")->Snapshot(directory_ / "saved");
  auto copy = Make("");
  copy->PrepareRestore(directory_ / "saved");
  EXPECT_EQ(copy->status().state, MachineState::kStarting);
  pid_t waits = copy->Info().pid;
  copy->Restore(directory_ / "saved");
  EXPECT_EQ(copy->Info().pid, waits);
  EXPECT_EQ(copy->status().state, MachineState::kRunning);
  EXPECT_THAT(Requests(), testing::EndsWith("PUT vm.restore\nPUT vm.resume\n"));
}

TEST_F(ScriptedMachine, ASnapshotThatCannotBeRestoredSaysSoAndLeavesTheMachineUsable) {
  Boot("")->Snapshot(directory_ / "saved");
  auto copy = Make("vm.restore 500 [\"The VM could not be restored\",\"Error deserialising: trailing characters\"]");
  EXPECT_THAT(ErrorOf<VmmDied>([&] { copy->Restore(directory_ / "saved"); }),
              AllOf(HasSubstr("cannot restore 'scripted' (ch)"), HasSubstr("Error deserialising")));
  std::ofstream(script()) << "";
  copy->Boot();
  EXPECT_EQ(copy->status().state, MachineState::kRunning);
}

TEST_F(ScriptedMachine, ASnapshotOfAnotherVersionOrWithoutItsFilesIsRefused) {
  Boot("", 53)->Snapshot(directory_ / "saved");
  EXPECT_THAT(ErrorOf<BadSpec>([&] { Make("", 54)->Restore(directory_ / "saved"); }),
              AllOf(HasSubstr("v53.0.0"), HasSubstr("v54.0.0"), HasSubstr("MAYFLY_CLOUD_HYPERVISOR")));
  fs::remove(directory_ / "saved" / "config.json");
  EXPECT_THROW(Make("")->Restore(directory_ / "saved"), Error);
}

// --- Hand-over ------------------------------------------------------------------------------------------------------

TEST_F(ScriptedMachine, GoesOnUnderWhoTookItOver) {
  agent_ = true;
  auto machine = Boot("");
  pid_t pid = machine->Info().pid;
  internal::UniqueFd agent = machine->ConnectAgent();
  ReleasedMachine released = machine->Release();
  released.name = "taken";
  machine.reset();
  ChMachine taken(std::move(released), std::move(agent));
  agent = taken.ConnectAgent();
  pollfd listener{.fd = agent.get(), .events = POLLRDHUP | POLLIN, .revents = 0};
  EXPECT_EQ(poll(&listener, 1, 0), 0) << "the guest's agent is still awaited";
  EXPECT_EQ(taken.name(), "taken");
  EXPECT_EQ(taken.Info().pid, pid);
  EXPECT_EQ(taken.status().state, MachineState::kRunning);
  taken.Pause();  // its events are heard
  EXPECT_TRUE(taken.status().paused);
  taken.Kill();
  EXPECT_EQ(poll(&listener, 1, 0), 1) << "and is not any more";
  EXPECT_EQ(kill(pid, 0), -1);
  taken.Boot();  // its disks and its directory are its own now
  EXPECT_EQ(taken.status().state, MachineState::kRunning);
}

// --- Migration ------------------------------------------------------------------------------------------------------

TEST_F(ScriptedMachine, AMigrationThatFailsLeavesTheGuestHere) {
  auto machine = Boot("vm.send-migration 204 vm/migration-started vm/migration-failed");
  EXPECT_THAT(ErrorOf<HostLacks>([&] { machine->SendMigration("unix:/nobody"); }), HasSubstr("unix:/nobody"));
  EXPECT_EQ(machine->status().state, MachineState::kRunning);
}

TEST_F(ScriptedMachine, ASenderThatDiesInTheMiddleIsAFailure) {
  auto machine = Boot("vm.send-migration 204 vm/migration-started");
  auto moved = std::async(std::launch::async, [&] { machine->SendMigration("unix:/somebody"); });
  auto started = [](const Event& event) { return event.name == "migration-started"; };
  ASSERT_TRUE(machine->timeline().WaitFor(started, Deadline::After(seconds(20))));
  kill(machine->Info().pid, SIGKILL);
  EXPECT_THAT(ErrorOf<VmmDied>([&] { moved.get(); }), HasSubstr("SIGKILL"));
  EXPECT_EQ(machine->status().state, MachineState::kFailed);
}

TEST_F(ScriptedMachine, AReceiverWithoutASenderIsEndedInTime) {
  BeImpatient();
  auto machine = Make("vm.receive-migration hang");
  EXPECT_THAT(ErrorOf<VmmDied>([&] { machine->ReceiveMigration("unix:" + (directory_ / "m").string()); }),
              HasSubstr("cannot receive 'scripted'"));
  EXPECT_EQ(machine->status().state, MachineState::kFailed);
}

TEST_F(ScriptedMachine, AnAddressOfNoKindAndADiskOfItsOwnAreRefused) {
  auto machine = Boot("");
  EXPECT_THROW(machine->SendMigration("carrier pigeon"), BadSpec);
  machine->AddDisk({.id = "own", .size = 1_MiB});
  EXPECT_THAT(ErrorOf<Unsupported>([&] { machine->SendMigration("unix:/m"); }), HasSubstr("'own'"));
}

}  // namespace
}  // namespace mayfly::ch
