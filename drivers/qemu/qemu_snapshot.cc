// Saving a machine, going on from what was saved, and handing a running one to another process.
//
// The state of the devices is a migration stream into a file. Memory is in that stream too, or, when it lies in shared
// files (KeepMemoryIn), left out of it (x-ignore-shared); then a copy maps the files privately, and what it does not
// change costs nothing. The stream is written without stopping the guest before, so a copy runs by itself.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/machine_snapshot.h>
#include <mayfly/snapshot.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/qemu_machine.h"
#include "drivers/qemu/qemu_migration.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::seconds;

constexpr const char* kStateFile = "state";
constexpr const char* kMemory = "memory";
constexpr const char* kStateName = "mayfly-state";

// The files of a directory of memory, copied so that holes stay holes.
void CopyMemory(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const fs::directory_entry& file : fs::directory_iterator(from)) {
    CopyDiskFile(file.path(), to / file.path().filename());
  }
}

void MoveMemory(const fs::path& from, const fs::path& to) {
  std::error_code other_file_system;
  fs::rename(from, to, other_file_system);
  if (!other_file_system) return;
  CopyMemory(from, to);
  fs::remove_all(from);
}

}  // namespace

void QemuMachine::RequireSavable() const {
  std::string why = WhyQemuCannotSave(spec_);
  if (!dimms_.empty()) why = "memory was added to the running machine";
  if (!plugged_.empty()) why = fmt::format("devices were added to the running machine: {}", fmt::join(plugged_, " "));
  if (!why.empty()) throw Unsupported(Capability::kStateSnapshot, driver(), why);
}

// Runs the migration into DIRECTORY/state. The guest stands still afterwards.
void QemuMachine::SaveState(const fs::path& directory) {
  UniqueFd state = OpenToWrite(directory / kStateFile, 0600);
  QmpClient& qmp = process_->qmp();
  Deadline deadline = SaveDeadline();
  qmp.Execute("migrate-set-capabilities", MigrationCapabilities(start_.memory.kind == MemoryKind::kShared), deadline);
  qmp.Execute("migrate-set-parameters", MigrationParameters(), deadline);
  qmp.Execute("getfd", {{"fdname", kStateName}}, deadline, std::move(state));
  size_t from = timeline_.size();
  try {
    qmp.Execute("migrate", {{"uri", fmt::format("fd:{}", kStateName)}}, deadline);
  } catch (const QmpError& error) {
    // "State blocked by non-migratable device '…'"
    throw Unsupported(Capability::kStateSnapshot, driver(), error.description());
  }
  auto end = timeline_.WaitFor(IsEndOfMigration, deadline, from);
  if (!end) throw Timeout({.summary = fmt::format("'{}' (qemu): its state was not saved in time", name())});
  if (IsGoodEnd(*end)) return;
  std::string why = process_->qmp().Execute("query-migrate", nullptr, deadline).value("error-desc", end->detail);
  throw HostLacks({.summary = fmt::format("'{}' (qemu): its state was not saved: {}", name(), why),
                   .next_step = fmt::format("look for free space in {}", directory.string())});
}

void QemuMachine::Snapshot(const fs::path& directory) {
  if (status().state != MachineState::kRunning && status().state != MachineState::kReady) {
    throw BadSpec({.summary = fmt::format("'{}' (qemu) cannot be saved: it is {}", name(), ToString(status().state)),
                   .next_step = "Boot() it first"});
  }
  RequireSavable();
  MakeSnapshotDirectory(fmt::format("'{}' (qemu)", name()), directory);
  bool was_paused = status().paused;
  auto go_on = [&] {
    // "completed" is told a moment before QEMU takes commands for the machine again, and no event tells of that; each
    // question waits for the lock which the migration holds until then.
    while (Execute("query-status", nullptr).value("status", "") == "finish-migrate") {
    }
    if (!was_paused) Execute("cont", nullptr);
  };
  try {
    SaveState(directory);
    SnapshotInfo info{.driver = driver(),
                      .vmm = "QEMU " + qemu_.version.ToString(),
                      .machine = std::string(machine_.type->name),
                      .accelerator = accelerator_.kvm ? "kvm" : "tcg",
                      .shared_memory = start_.memory.kind == MemoryKind::kShared,
                      .spec = spec_,
                      .made_up_macs = made_up_macs_,
                      .directory = directory};
    SaveDisksAndConsole(info, disks_, console_path());
    if (info.shared_memory) {
      MoveMemory(start_.memory.directory, directory / kMemory);
      RunOnIoThread([&] { ending_ = "saved as a template"; });
      process_->Kill();
      process_.reset();
      memory_directory_.clear();
    } else {
      go_on();
    }
    WriteSnapshot(info);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(directory, ignored);
    if (process_ && status().paused) go_on();
    throw;
  }
}

// QEMU is complete then but for its state, whose file it holds open.
void QemuMachine::PrepareRestore(const fs::path& directory) {
  StartRestore(directory);
  process_->qmp().NegotiateAndExecute({{"migrate-set-capabilities", MigrationCapabilities(!start_.state_has_memory)}},
                                      Deadline::After(Scaled(seconds(60))));
  awaited_ = directory;
}

void QemuMachine::Restore(const fs::path& directory) {
  bool waits = awaited_ == directory && status().state == MachineState::kStarting;
  if (!waits) StartRestore(directory);
  try {
    AwaitIncoming("a snapshot", Deadline::After(Scaled(seconds(60))));
  } catch (Error& error) {
    error.AddNote(fmt::format("it was to go on from {}", directory.string()));
    throw;
  }
}

void QemuMachine::StartRestore(const fs::path& directory) {
  RequireDown("restore");
  SnapshotInfo info = ReadSnapshot(directory);
  bool kvm = ChooseAccelerator(spec_.accelerator, qemu_, spec_.boot.kernel).kvm;
  RequireSameVmm(info,
                 {.driver = driver(), .vmm = "QEMU " + qemu_.version.ToString(), .accelerator = kvm ? "kvm" : "tcg"},
                 "MAYFLY_QEMU");
  RememberMadeUpMacs(info, spec_, made_up_macs_);
  Start start{.state = OpenToRead(directory / kStateFile),
              .incoming = fmt::format("fd:{}", kStateDescriptor),
              .state_has_memory = !info.shared_memory};
  if (info.shared_memory) {
    start.memory = {MemoryKind::kPrivate, fs::absolute(directory) / kMemory};
    if (!memory_directory_.empty()) CopyMemory(start.memory.directory, memory_directory_);
  }
  if (!memory_directory_.empty()) start.memory = {MemoryKind::kShared, memory_directory_};
  BringConsole(directory, console_path());
  Launch(std::move(start), "restoring");
}

void QemuMachine::AwaitIncoming(std::string_view from_what, Deadline deadline) {
  try {
    size_t from = timeline_.size();
    QmpClient& qmp = process_->qmp();
    QmpCommand capabilities{"migrate-set-capabilities", MigrationCapabilities(!start_.state_has_memory)};
    QmpCommand incoming{"migrate-incoming", {{"uri", start_.incoming}}};
    if (std::exchange(awaited_, {}).empty()) {
      qmp.NegotiateAndExecute({std::move(capabilities), std::move(incoming)}, deadline);
    } else {
      qmp.Execute(incoming.name, incoming.arguments, deadline);
    }
    if (!start_.incoming.starts_with("fd:")) timeline_.Add("qemu", "listening", ListeningAddress(start_.incoming));
    auto end = timeline_.WaitFor(IsEndOfMigration, deadline, from);
    if (!end) throw Timeout({.summary = "QEMU did not restore the machine in time"});
    if (!IsGoodEnd(*end)) throw VmmDied({.summary = "the state was not restored"});
    SetUpRunning(deadline);
  } catch (const VmmDied& error) {
    ThrowStartFailed(error.text().summary);
  } catch (const Timeout& error) {
    ThrowStartFailed(error.text().summary);
  }
  RunOnIoThread([&] {
    if (status().state == MachineState::kStarting) {
      SetState(MachineState::kRunning, fmt::format("{} goes on from {}", qemu_.Text(), from_what));
    }
  });
}

// --- Hand-over ------------------------------------------------------------------------------------------------------

ReleasedMachine QemuMachine::Release() {
  QemuProcess::Running running = process_->Release();
  json record = {{"spec", ToJson(spec_)},
                 {"made_up_macs", made_up_macs_},
                 {"disks", DisksToRecord(disks_)},
                 {"program", qemu_.path.string()},
                 {"version", {qemu_.version.major, qemu_.version.minor, qemu_.version.micro}},
                 {"kvm", accelerator_.kvm},
                 {"accelerator_reason", accelerator_.reason},
                 {"memory", static_cast<int>(start_.memory.kind)},
                 {"memory_directory", start_.memory.directory.string()},
                 {"received", running.qmp_received},
                 {"paused", status().paused}};
  process_.reset();
  record["taps"] = json::array();
  for (const auto& [nic, tap] : taps_) {
    record["taps"].push_back({{"nic", nic},
                              {"device", tap.device},
                              {"user", tap.user ? true : false},
                              {"network", tap.network ? true : false}});
  }
  ReleasedMachine released{.record = record.dump(), .sandbox = std::move(sandbox_), .vmm = std::move(running.child)};
  released.descriptors.push_back(std::move(running.qmp));
  for (auto& [nic, tap] : taps_) {
    if (tap.user) released.descriptors.push_back(std::move(tap.user));
    if (tap.network) released.descriptors.push_back(std::move(tap.network));
  }
  return released;
}

QemuMachine::QemuMachine(ReleasedMachine machine, UniqueFd agent)
    : QemuMachine(json::parse(machine.record), std::move(machine), std::move(agent)) {}

QemuMachine::QemuMachine(const json& record, ReleasedMachine&& machine, UniqueFd agent)
    : Machine("qemu", SpecFromJson(record.at("spec").get<std::string>(), "machine record"), std::move(machine.sandbox)),
      qemu_{.path = record.at("program").get<std::string>(),
            .version = {record.at("version").at(0), record.at("version").at(1), record.at("version").at(2)}},
      machine_(ChooseMachine(spec_)),
      made_up_macs_(record.at("made_up_macs").get<std::vector<std::string>>()),
      firmware_(PrepareFirmware(spec_.boot.firmware, sandbox_.directory())),
      accelerator_{.kvm = record.at("kvm").get<bool>(), .reason = record.at("accelerator_reason").get<std::string>()} {
  if (!machine.name.empty()) spec_.name = machine.name;
  disks_ = DisksFromRecord(record.at("disks"), spec_);
  start_.memory = {static_cast<MemoryKind>(record.at("memory").get<int>()),
                   record.at("memory_directory").get<std::string>()};
  slots_.assign(machine_.type->hotplug_slots, "");
  ResetNics();
  size_t next = 1;  // the first is QMP's
  for (const json& row : record.at("taps")) {
    Tap& tap = taps_[row.at("nic").get<std::string>()];
    tap.device = row.at("device").get<std::string>();
    if (row.at("user").get<bool>()) tap.user = std::move(machine.descriptors.at(next++));
    if (row.at("network").get<bool>()) tap.network = std::move(machine.descriptors.at(next++));
  }
  // Before the process is watched, which may be dead by now: that is what its state is then.
  SetStatus({MachineState::kRunning, fmt::format("{} was taken over", qemu_.Text()), record.at("paused").get<bool>()});
  process_ =
      std::make_unique<QemuProcess>(QemuProcess::Running{.child = std::move(machine.vmm),
                                                         .qmp = std::move(machine.descriptors.at(0)),
                                                         .qmp_received = record.at("received").get<std::string>(),
                                                         .agent = std::move(agent)},
                                    ProcessOptions());
}

}  // namespace mayfly::internal
