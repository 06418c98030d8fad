#include <mayfly/machine.h>

#include <fmt/format.h>
#include <mayfly/errors.h>

#include <utility>

namespace mayfly {

std::string_view ToString(MachineState state) {
  switch (state) {
    case MachineState::kStopped:
      return "Stopped";
    case MachineState::kStarting:
      return "Starting";
    case MachineState::kRunning:
      return "Running";
    case MachineState::kReady:
      return "Ready";
    case MachineState::kFailed:
      return "Failed";
  }
  return "unknown";
}

Machine::Machine(std::string driver, MachineSpec spec, Sandbox sandbox)
    : spec_(std::move(spec)), sandbox_(std::move(sandbox)), driver_(std::move(driver)) {
  timeline_.Add("mayfly", "state", "Stopped: created");
}

MachineStatus Machine::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

MachineStatus Machine::WaitForStatus(const std::function<bool(const MachineStatus&)>& wanted, std::string_view what,
                                     Deadline deadline) const {
  std::unique_lock lock(mutex_);
  Clock::time_point began = Clock::now();
  while (!wanted(status_)) {
    if (deadline.Passed()) {
      throw Timeout({.summary = fmt::format("'{}' ({}): {} did not come in {}", name(), driver_, what,
                                            ForPeople(Duration(Clock::now() - began))),
                     .notes = {fmt::format("state: {}{}, {}", ToString(status_.state), status_.paused ? ", paused" : "",
                                           status_.reason)}});
    }
    changed_.wait_until(lock, deadline.time());
  }
  return status_;
}

void Machine::MarkReady(const std::string& reason) {
  MachineStatus now = status();
  // Not every VMM tells when a guest restarts itself; the agent of another boot does.
  if (now.state == MachineState::kReady && now.reason != reason)
    SetState(MachineState::kRunning, "the guest restarted");
  now = status();
  if (now.state == MachineState::kRunning) SetStatus({MachineState::kReady, reason, now.paused});
}

void Machine::SetState(MachineState state, std::string reason) { SetStatus({state, std::move(reason), false}); }

void Machine::SetStatus(MachineStatus next) {
  {
    std::lock_guard lock(mutex_);
    if (status_ == next) return;
    status_ = next;
  }
  // Before the waits go on: who boots again at once must not take the end of the last run for one of the new run.
  timeline_.Add("mayfly", "state",
                fmt::format("{}{}: {}", ToString(next.state), next.paused ? ", paused" : "", next.reason));
  changed_.notify_all();
}

std::string Machine::WhyUnsupported(Capability) const { return "this backend does not have it"; }

void Machine::ThrowUnsupported(Capability capability) const {
  throw Unsupported(capability, driver_, WhyUnsupported(capability));
}

void Machine::Pause() { ThrowUnsupported(Capability::kStatePause); }
void Machine::Resume() { ThrowUnsupported(Capability::kStatePause); }
void Machine::PowerButton() { ThrowUnsupported(Capability::kLifecyclePowerButton); }
void Machine::ResizeCpus(uint32_t) { ThrowUnsupported(Capability::kCpuHotplug); }
void Machine::ResizeMemory(Bytes) { ThrowUnsupported(Capability::kMemoryHotplug); }
void Machine::ResizeZone(const std::string&, Bytes) { ThrowUnsupported(Capability::kMemoryZoneResize); }
void Machine::SetBalloon(Bytes) { ThrowUnsupported(Capability::kMemoryBalloon); }
void Machine::AddDisk(const Disk&) { ThrowUnsupported(Capability::kStorageHotplug); }
void Machine::ResizeDisk(const std::string&, Bytes) { ThrowUnsupported(Capability::kStorageResize); }
void Machine::SetRateLimit(const std::string&, const RateLimit&) { ThrowUnsupported(Capability::kStorageRateLimit); }
void Machine::AddNic(const Nic&) { ThrowUnsupported(Capability::kNetworkHotplug); }
void Machine::AttachNic(const Nic&) { ThrowUnsupported(Capability::kNetworkAttachmentSwap); }
TapEnd Machine::HostEndOf(const std::string&) const { ThrowUnsupported(Capability::kNetworkTap); }
void Machine::AddShare(const Share&) { ThrowUnsupported(Capability::kShareHotplug); }
void Machine::AddPmem(const Pmem&) { ThrowUnsupported(Capability::kStoragePmem); }
void Machine::AddVsock(const Vsock&) { ThrowUnsupported(Capability::kIntervmVsockHotplug); }
void Machine::AddPassthrough(const Passthrough&) { ThrowUnsupported(Capability::kPassthroughHotplug); }
void Machine::RemoveDevice(const std::string&) { ThrowUnsupported(Capability::kDeviceRemove); }
internal::UniqueFd Machine::ConnectVsock(uint32_t) { ThrowUnsupported(Capability::kIntervmVsock); }
internal::UniqueFd Machine::ListenVsock(uint32_t) { ThrowUnsupported(Capability::kIntervmVsock); }
void Machine::Snapshot(const std::filesystem::path&) { ThrowUnsupported(Capability::kStateSnapshot); }
void Machine::PrepareRestore(const std::filesystem::path&) {}
void Machine::Restore(const std::filesystem::path&) { ThrowUnsupported(Capability::kStateRestore); }
void Machine::KeepMemoryIn(const std::filesystem::path&) { ThrowUnsupported(Capability::kStateSnapshot); }
ReleasedMachine Machine::Release() { ThrowUnsupported(Capability::kStateSnapshot); }
void Machine::SendMigration(const std::string&) { ThrowUnsupported(Capability::kStateMigration); }
void Machine::ReceiveMigration(const std::string&) { ThrowUnsupported(Capability::kStateMigration); }
std::map<std::string, std::map<std::string, uint64_t>> Machine::Counters() {
  ThrowUnsupported(Capability::kStateCounters);
}
void Machine::InjectNmi() { ThrowUnsupported(Capability::kDebugNmi); }
void Machine::CoreDump(const std::filesystem::path&) { ThrowUnsupported(Capability::kDebugCoredump); }
void Machine::Screenshot(const std::filesystem::path&) { ThrowUnsupported(Capability::kPlatformGraphics); }

}  // namespace mayfly
