#include "drivers/qemu/qemu_machine.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/swtpm.h>
#include <mayfly/internal/virtiofsd.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/command_line.h"
#include "drivers/qemu/device_options.h"
#include "drivers/qemu/qemu_process.h"
#include "drivers/qemu/qmp.h"
#include "drivers/qemu/start_failure.h"

namespace mayfly::internal {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr const char* kTpmState = "tpm";
// How many events of one name a run leaves in the timeline: a guest can make them without end.
constexpr size_t kEventsKept = 10'000;

Deadline CommandDeadline() { return Deadline::After(Scaled(seconds(30))); }

bool IsUp(const MachineStatus& status) {
  return status.state == MachineState::kRunning || status.state == MachineState::kReady;
}

// How QEMU's reasons for SHUTDOWN read; what is not here was not wanted by anybody.
struct ShutdownRow {
  std::string_view qemu;
  std::string_view reason;
};
constexpr std::array kShutdownRows = {
    ShutdownRow{"guest-shutdown", "the guest powered off"},
    ShutdownRow{"host-qmp-quit", "QEMU was told to quit"},
};

std::string EventDetail(const json& data) {
  if (auto reason = data.find("reason"); data.size() <= 2 && reason != data.end() && reason->is_string()) {
    return reason->get<std::string>();
  }
  return data.empty() ? "" : data.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::vector<Bytes> PmemSizes(const MachineSpec& spec) {
  std::vector<Bytes> sizes;
  for (const Pmem& pmem : spec.pmem) sizes.emplace_back(std::filesystem::file_size(pmem.path));
  return sizes;
}

void RequireZoneRooms(const MachineSpec& spec) {
  for (const MemoryZone& zone : spec.zones) {
    if (!CanGrow(zone) || (zone.max_size - zone.size).count() % kZoneBlock.count() == 0) continue;
    throw BadSpec({.summary = fmt::format(
                       "spec: zones: '{}': max_size \"{}\" is {} more than size; zones grow in pieces of {}", zone.id,
                       ToString(zone.max_size), ToString(zone.max_size - zone.size), ToString(kZoneBlock))});
  }
}

}  // namespace

QemuMachine::QemuMachine(QemuProgram qemu, MachineSpec spec, Sandbox sandbox)
    : Machine("qemu", std::move(spec), std::move(sandbox)),
      qemu_(std::move(qemu)),
      machine_(ChooseMachine(spec_)),
      disks_(PrepareDisks(spec_, sandbox_)),
      firmware_(PrepareFirmware(spec_.boot.firmware, sandbox_.directory())) {
  RequireZoneRooms(spec_);
  if (spec_.tpm) MakeTpmState(*spec_.tpm, sandbox_.Path(kTpmState));
  for (Nic& nic : spec_.nics) {
    if (!nic.mac.empty()) continue;
    nic.mac = RandomMac();
    made_up_macs_.push_back(nic.id);
  }
}

QemuMachine::~QemuMachine() = default;

std::vector<std::string> QemuMachine::CommandLine(bool for_people) const {
  return QemuCommandLine({.program = qemu_.path.string(),
                          .spec = spec_,
                          .machine = *machine_.type,
                          .kvm = accelerator_.kvm,
                          .tsc_khz = HostTscKhz(),
                          .disks = disks_,
                          .pmem_sizes = PmemSizes(spec_),
                          .firmware = firmware_,
                          .vsock_cid = vsock_.cid,
                          .directory = sandbox_.directory(),
                          .wiring = for_people ? Wiring::kPaths : Wiring::kDescriptors,
                          .memory = for_people ? MemoryPlace{} : start_.memory,
                          .restore = !for_people && !start_.incoming.empty(),
                          .extra = ExtraQemuArguments()});
}

MachineInfo QemuMachine::Info() const {
  return {.driver = driver(),
          .vmm = "QEMU " + qemu_.version.ToString(),
          .machine = std::string(machine_.type->name),
          .accelerator = accelerator_.kvm ? "kvm" : "tcg",
          .accelerator_reason = accelerator_.reason,
          .command_line = CommandLine(/*for_people=*/true),
          .pid = process_ ? process_->pid() : -1};
}

std::string QemuMachine::WhyUnsupported(Capability capability) const {
  return std::string(QemuCapabilityOf(capability).reason);
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

void QemuMachine::Boot() {
  RequireDown("boot");
  Launch({.memory = memory_directory_.empty() ? MemoryPlace{} : MemoryPlace{MemoryKind::kShared, memory_directory_}},
         "booting");
  AwaitStart(Deadline::After(Scaled(seconds(30))));
}

void QemuMachine::RequireDown(std::string_view what) const {
  MachineStatus now = status();
  if (!IsUp(now) && now.state != MachineState::kStarting) return;
  throw BadSpec({.summary = fmt::format("'{}' (qemu) cannot {}: it is {} already", name(), what, ToString(now.state)),
                 .next_step = "Stop() or Kill() it first, or Reset() it"});
}

std::vector<std::unique_ptr<Process>> QemuMachine::StartServers() const {
  std::vector<std::unique_ptr<Process>> servers;
  for (size_t i = 0; i < spec_.shares.size(); ++i) {
    servers.push_back(ServeShare(sandbox_, spec_.shares[i], ShareSocket(sandbox_.directory(), i)));
  }
  if (spec_.tpm) servers.push_back(ServeTpm(sandbox_, sandbox_.Path(kTpmState), TpmSocket(sandbox_.directory())));
  return servers;
}

QemuProcess::Options QemuMachine::ProcessOptions() {
  std::vector<std::pair<UniqueFd, int>> descriptors;
  if (vsock_.vhost) descriptors.emplace_back(std::move(vsock_.vhost), kVsockDescriptor);
  for (size_t i = 0; i < spec_.nics.size(); ++i) {
    auto tap = taps_.find(spec_.nics[i].id);
    if (tap == taps_.end()) continue;
    descriptors.emplace_back(std::move(tap->second.descriptor), kTapDescriptors + static_cast<int>(i));
  }
  return {.argv = CommandLine(/*for_people=*/false),
          .log = vmm_log_path(),
          .agent = spec_.agent,
          .state = std::move(start_.state),
          .descriptors = std::move(descriptors),
          .servers = StartServers(),
          .on_event = [this](const std::string& event, const json& data) { return OnEvent(event, data); },
          .on_exit = [this](const QemuExit& exit) { OnExit(exit); }};
}

void QemuMachine::Launch(Start start, std::string_view doing) {
  process_.reset();  // a run that failed and was left to be looked at
  ending_.clear();
  event_counts_.clear();
  slots_.assign(machine_.type->hotplug_slots, "");
  plugged_.clear();
  dimms_.clear();
  agent_taken_ = false;
  awaited_.clear();
  share_numbers_.clear();
  for (next_share_ = 0; next_share_ < spec_.shares.size(); ++next_share_) {
    share_numbers_[spec_.shares[next_share_].tag] = next_share_;
  }
  ResetNics();
  start_ = std::move(start);
  if (start_.memory.kind == MemoryKind::kShared) std::filesystem::create_directories(start_.memory.directory);
  SetState(MachineState::kStarting, std::string(doing));
  try {
    accelerator_ = ChooseAccelerator(spec_.accelerator, qemu_, spec_.boot.kernel);
    for (const Nic& nic : spec_.nics) {
      if (nic.kind == NicKind::kTap) taps_[nic.id] = TapFor(nic);
    }
    vsock_ = spec_.vsock ? ReserveVsock(spec_.vsock->cid) : GuestVsock{};
    process_ = std::make_unique<QemuProcess>(sandbox_, ProcessOptions());
  } catch (const Error& error) {
    SetState(MachineState::kFailed, error.text().summary);
    throw;
  }
}

// QEMU answers on its control socket once the machine is complete and its CPUs have been let go.
void QemuMachine::AwaitStart(Deadline deadline) {
  try {
    process_->qmp().Negotiate(deadline);
    SetUpRunning(deadline);
  } catch (const VmmDied& error) {
    ThrowStartFailed(error.text().summary);
  } catch (const Timeout& error) {
    ThrowStartFailed(error.text().summary);
  }
  // A guest that was fast enough to power off by now is Stopped already.
  RunOnIoThread([&] {
    if (status().state == MachineState::kStarting) {
      SetState(MachineState::kRunning,
               fmt::format("{} runs ({}, {})", qemu_.Text(), machine_.type->name, accelerator_.kvm ? "kvm" : "tcg"));
    }
  });
}

// What can only be told to a QEMU that runs.
void QemuMachine::SetUpRunning(Deadline deadline) {
  QmpClient& qmp = process_->qmp();
  if (spec_.balloon && spec_.balloon->size > Bytes()) SetBalloon(spec_.balloon->size);
  for (const Nic& nic : spec_.nics) SetCarrier(nic);
  if (spec_.serial == SerialKind::kPty) {
    for (const json& device : qmp.Execute("query-chardev", nullptr, deadline)) {
      std::string file = device.value("filename", "");
      if (device.value("label", "") == "serial") timeline_.Add("qemu", "serial", file.substr(file.find(':') + 1));
    }
  }
  if (spec_.affinity.empty()) return;
  for (const json& cpu : qmp.Execute("query-cpus-fast", nullptr, deadline)) {
    for (const CpuAffinity& affinity : spec_.affinity) {
      if (cpu.at("cpu-index").get<uint32_t>() != affinity.vcpu) continue;
      cpu_set_t set;
      CPU_ZERO(&set);
      for (uint32_t host_cpu : affinity.host_cpus) CPU_SET(host_cpu, &set);
      pid_t thread = cpu.at("thread-id").get<pid_t>();
      if (sched_setaffinity(thread, sizeof set, &set) != 0) {
        process_->Kill();
        throw HostLacks(
            {.summary = fmt::format("'{}': cannot bind vCPU {} to the host CPUs that its affinity names: {}", name(),
                                    affinity.vcpu, std::generic_category().message(errno))});
      }
    }
  }
}

void QemuMachine::ThrowStartFailed(const std::string& trouble) {
  // The connection ends a moment before the process does; a QEMU that hangs is ended.
  if (!process_->WaitForExit(Deadline::After(Scaled(seconds(2))))) process_->Kill();
  ThrowQemuDidNotStart({.name = name(),
                        .machine = std::string(machine_.type->name),
                        .version = qemu_.Text(),
                        .trouble = trouble,
                        .ended = status().reason,
                        .last_words = process_->LastWords(),
                        .log = vmm_log_path(),
                        .restore = !start_.incoming.empty()});
}

bool QemuMachine::Stop(Duration grace) {
  Deadline deadline = Deadline::After(grace);
  if (!process_ || !IsUp(status())) {
    Kill();
    return true;
  }
  try {
    if (status().paused) Resume();
    PowerButton();
    if (process_->WaitForExit(deadline)) return status().state == MachineState::kStopped;
  } catch (const VmmDied&) {
    // It ended by itself just now.
  }
  Kill();
  return false;
}

void QemuMachine::Kill() {
  if (!process_) return;
  RunOnIoThread([&] { ending_ = "killed"; });
  process_->Kill();
  process_.reset();
  // After a failure the process had been left for a look at it.
  if (status().state != MachineState::kStopped) SetState(MachineState::kStopped, "killed");
}

void QemuMachine::Reset() {
  size_t from = timeline_.size();
  Execute("system_reset", nullptr);
  auto is_reset = [](const Event& event) { return event.source == "qemu" && event.name == "RESET"; };
  if (!timeline_.WaitFor(is_reset, CommandDeadline(), from)) {
    throw Timeout({.summary = fmt::format("'{}' (qemu): QEMU did not reset the machine", name())});
  }
  RunOnIoThread([] {});  // the event has been handled: the machine is not Ready any more
}

UniqueFd QemuMachine::ConnectAgent() {
  if (!process_ || std::exchange(agent_taken_, true)) return {};
  return process_->TakeAgent();
}

// --- Events, on the I/O thread --------------------------------------------------------------------------------------

bool QemuMachine::OnEvent(const std::string& event, const json& data) {
  size_t count = ++event_counts_[event];
  if (count <= kEventsKept) timeline_.Add("qemu", event, EventDetail(data));
  if (count == kEventsKept) timeline_.Add("qemu", event, "further ones of this boot are not recorded");

  MachineStatus now = status();
  if (event == "RESET") {
    if (IsUp(now)) {
      SetState(MachineState::kRunning, data.value("guest", false) ? "the guest restarted" : "the machine was reset");
    }
  } else if (event == "SHUTDOWN") {
    std::string reason = data.value("reason", "");
    for (const ShutdownRow& row : kShutdownRows) {
      if (row.qemu == reason) ending_ = row.reason;
    }
  } else if (event == "WATCHDOG") {
    if (data.value("action", "") == "poweroff") ending_ = "the watchdog powered the guest off";
  } else if (event == "STOP" || event == "RESUME") {
    now.paused = event == "STOP";
    if (IsUp(now)) SetStatus(now);
  } else if (event == "GUEST_PANICKED") {
    SetState(MachineState::kFailed, "the guest panicked");
  } else if (event == "BLOCK_IO_ERROR" && data.value("nospace", false)) {
    std::string disk = DiskOfDevice(data.value("node-name", data.value("device", "")));
    SetState(MachineState::kFailed, fmt::format("the host has no space left for disk '{}'", disk));
  }
  return status().state != MachineState::kFailed;
}

void QemuMachine::OnExit(const QemuExit& exit) {
  if (!ending_.empty()) return SetState(MachineState::kStopped, ending_);
  std::string reason = fmt::format("QEMU ended: {}", exit.status.ToString());
  if (!exit.trouble.empty()) reason += "; " + exit.trouble;
  if (!exit.last_words.empty()) reason += "; " + exit.last_words.back();
  SetState(MachineState::kFailed, reason);
}

json QemuMachine::Execute(const std::string& command, const json& arguments) {
  if (!process_ || status().state == MachineState::kStopped) {
    throw BadSpec({.summary = fmt::format("'{}' (qemu) cannot do '{}': it is Stopped", name(), command),
                   .notes = {status().reason},
                   .next_step = "Boot() it first"});
  }
  try {
    return process_->qmp().Execute(command, arguments, CommandDeadline());
  } catch (VmmDied& error) {
    process_->WaitForExit(Deadline::After(Scaled(seconds(2))));  // how it ended is known then
    error.AddNote(status().reason);
    throw;
  }
}

}  // namespace mayfly::internal
