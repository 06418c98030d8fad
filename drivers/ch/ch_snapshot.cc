// Saving a machine, going on from what was saved, and handing a running one to another process.
//
// Cloud Hypervisor keeps what is new in the tables of a qcow2 image to itself until the guest flushes, or until it ends
// in order. The agent has the disks flushed before it lets the guest be saved (quiesce); a template ends in order.
//
// A snapshot's directory has Cloud Hypervisor's own files, and beside them the state that lets copies share the memory
// in it (saved_state.h). Each copy has a directory of its own from which it is restored: its configuration, and links
// to what it has from the snapshot.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/machine_snapshot.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "drivers/ch/capabilities.h"
#include "drivers/ch/ch_ask.h"
#include "drivers/ch/ch_machine.h"
#include "drivers/ch/saved_state.h"

namespace mayfly::ch {
namespace {

namespace fs = std::filesystem;
using internal::RunOnIoThread;
using nlohmann::json;

// The state for copies that share the memory; not there when they cannot.
constexpr const char* kSharedStateFile = "state-shared.json";
// Where a copy is restored from, in its directory.
constexpr const char* kRestoreDirectory = "restore";
constexpr uint64_t kLargestFile = uint64_t{64} << 20;

// How a copy gets its memory.
enum class CopyMemory { kShare, kRead, kOnDemand };

// $MAYFLY_CH_RESTORE, for who compares them; else the copy shares what it can.
CopyMemory ChosenMemory(bool can_share) {
  const char* value = std::getenv("MAYFLY_CH_RESTORE");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string_view mode = value != nullptr && *value != '\0' ? value : "share";
  if (mode == "share") return can_share ? CopyMemory::kShare : CopyMemory::kRead;
  if (mode == "copy") return CopyMemory::kRead;
  if (mode == "on-demand") return CopyMemory::kOnDemand;
  throw BadSpec(
      {.summary = fmt::format("MAYFLY_CH_RESTORE: \"{}\" is not a mode; allowed: share, copy, on-demand", mode)});
}

// Huge pages cannot be those of a file, and memory that other processes serve devices from has to be shared.
bool HasPlainMemory(const MachineSpec& spec) {
  return !spec.hugepages && spec.shares.empty() &&
         std::none_of(spec.zones.begin(), spec.zones.end(), [](const MemoryZone& zone) { return zone.hugepages; });
}

bool SaysFull(const ApiError& error) { return error.Says("No space left on device"); }

}  // namespace

SnapshotInfo ChMachine::InfoOfSnapshot() const {
  return {.driver = driver(),
          .vmm = program_.Text(),
          .machine = "pc",
          .accelerator = "kvm",
          .shared_memory = HasPlainMemory(spec_),
          .spec = spec_,
          .made_up_macs = made_up_macs_};
}

void ChMachine::RequireSavable() const {
  std::string why = WhyCannotSave(spec_);
  if (program_.major < kVersionThatResetsVsock) {
    why = fmt::format("{} leaves a copy's connections over vsock open without another end", program_.Text());
  }
  if (!added_.empty()) why = fmt::format("devices were added to the running machine: {}", fmt::join(added_, " "));
  if (!why.empty()) throw Unsupported(Capability::kStateSnapshot, driver(), why);
}

// Of the paused machine.
void ChMachine::SaveState(const fs::path& directory) {
  try {
    Ask("save", [&](Api& api) { api.Snapshot(directory, SaveDeadline()); });
  } catch (const ApiError& error) {
    if (!SaysFull(error)) throw;
    internal::ThrowFileError(fmt::format("save '{}' (ch) to", name()), directory, ENOSPC);
  }
  if (!HasPlainMemory(spec_)) return;
  auto state = StateOfSharedMemory(internal::ReadWholeFile(directory / kStateFile, kLargestFile));
  if (state) internal::WriteWholeFile(directory / kSharedStateFile, *state);
}

void ChMachine::Snapshot(const fs::path& directory) {
  Running("be saved");
  RequireSavable();
  internal::MakeSnapshotDirectory(fmt::format("'{}' (ch)", name()), directory);
  const bool was_paused = status().paused;
  auto go_on = [&] {
    if (process_ && IsUp(status()) && status().paused && !was_paused) Resume();
  };
  try {
    if (!was_paused) Pause();
    SaveState(fs::absolute(directory));
    SnapshotInfo info = InfoOfSnapshot();
    info.directory = directory;
    if (ends_with_snapshot_) {
      // In order, or what the VMM knows of its qcow2 images is not in them yet.
      RunOnIoThread([&] { ending_ = "saved as a template"; });
      Ask("end", [this](Api& api) { api.Delete(CallDeadline()); });
      process_->Kill();
      process_.reset();
      added_servers_.clear();
    }
    internal::SaveDisksAndConsole(info, disks_, console_path());
    go_on();
    WriteSnapshot(info);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(directory, ignored);
    go_on();
    throw;
  }
}

void ChMachine::StartRestore(const fs::path& directory) {
  RequireDown("restore");
  SnapshotInfo info = ReadSnapshot(directory);
  internal::RequireSameVmm(info, InfoOfSnapshot(), "MAYFLY_CLOUD_HYPERVISOR");
  internal::RememberMadeUpMacs(info, spec_, made_up_macs_);
  const fs::path saved = fs::absolute(directory);
  const CopyMemory memory = ChosenMemory(fs::exists(saved / kSharedStateFile));
  const bool shares = memory == CopyMemory::kShare;

  const fs::path own = sandbox_.Path(kRestoreDirectory);
  fs::remove_all(own);
  fs::create_directory(own);
  internal::WriteWholeFile(own / kConfigFile, ConfigOfCopy(internal::ReadWholeFile(saved / kConfigFile, kLargestFile),
                                                           Config(), shares ? saved / kMemoryFile : fs::path()));
  fs::create_symlink(saved / (shares ? kSharedStateFile : kStateFile), own / kStateFile);
  if (!shares) fs::create_symlink(saved / kMemoryFile, own / kMemoryFile);
  internal::BringConsole(saved, console_path());
  Launch("restoring");
  shares_memory_ = shares;
}

void ChMachine::PrepareRestore(const fs::path& directory) {
  StartRestore(directory);
  awaited_ = directory;
}

void ChMachine::Restore(const fs::path& directory) {
  bool waits = awaited_ == directory && status().state == MachineState::kStarting;
  if (!waits) StartRestore(directory);
  awaited_.clear();
  RestoreConfig config{.source_url = "file://" + sandbox_.Path(kRestoreDirectory).string()};
  if (ChosenMemory(true) == CopyMemory::kOnDemand) config.memory_restore_mode = MemoryRestoreMode::kOnDemand;
  Begin("restore", "goes on from a snapshot", [&](Api& api) {
    api.Restore(config, SaveDeadline());
    api.Resume(CallDeadline());
  });
}

// --- Hand-over ------------------------------------------------------------------------------------------------------

ReleasedMachine ChMachine::Release() {
  if (serial_) {
    throw Unsupported(Capability::kStateSnapshot, driver(), "who speaks with its serial port speaks with this process");
  }
  VmmProcess::Running running = process_->Release();
  json record = {{"spec", ToJson(spec_)},
                 {"made_up_macs", made_up_macs_},
                 {"disks", internal::DisksToRecord(disks_)},
                 {"program", program_.path.string()},
                 {"version", program_.version},
                 {"major", program_.major},
                 {"received", running.received},
                 {"paused", status().paused}};
  process_.reset();
  ReleasedMachine released{.record = record.dump(), .sandbox = std::move(sandbox_), .vmm = std::move(running.child)};
  released.descriptors.push_back(std::move(running.events));
  return released;
}

ChMachine::ChMachine(ReleasedMachine machine, internal::UniqueFd agent)
    : ChMachine(json::parse(machine.record), std::move(machine), std::move(agent)) {}

ChMachine::ChMachine(const json& record, ReleasedMachine&& machine, internal::UniqueFd agent)
    : Machine("ch", SpecFromJson(record.at("spec").get<std::string>(), "machine record"), std::move(machine.sandbox)),
      program_{.path = record.at("program").get<std::string>(),
               .version = record.at("version").get<std::string>(),
               .major = record.at("major").get<int>()},
      made_up_macs_(record.at("made_up_macs").get<std::vector<std::string>>()),
      disks_(internal::DisksFromRecord(record.at("disks"), spec_)),
      agent_listener_(std::move(agent)) {
  if (!machine.name.empty()) spec_.name = machine.name;
  // Before the process is watched, which may be dead by now: that is what its state is then.
  SetStatus(
      {MachineState::kRunning, fmt::format("{} was taken over", program_.Text()), record.at("paused").get<bool>()});
  process_ = std::make_unique<VmmProcess>(sandbox_,
                                          VmmProcess::Running{.child = std::move(machine.vmm),
                                                              .events = std::move(machine.descriptors.at(0)),
                                                              .received = record.at("received").get<std::string>()},
                                          ProcessOptions(agent_listener_.get()));
}

}  // namespace mayfly::ch
