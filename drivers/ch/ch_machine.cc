#include "drivers/ch/ch_machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/start_failure.h>
#include <mayfly/internal/swtpm.h>
#include <mayfly/internal/unix_listener.h>
#include <mayfly/internal/virtiofsd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "drivers/ch/api_error.h"
#include "drivers/ch/capabilities.h"
#include "drivers/ch/ch_ask.h"
#include "drivers/ch/spec_config.h"

namespace mayfly::ch {
namespace {

using internal::Fault;
using internal::Refusal;
using internal::RunOnIoThread;
using std::chrono::seconds;

// How many events of one name a run leaves in the timeline: a guest can make them without end.
constexpr size_t kEventsKept = 10'000;

// What Cloud Hypervisor says when it cannot boot a machine, and whose fault it is.
constexpr std::array kRefusals = {
    Refusal{"Cannot load the kernel into memory", Fault::kSpec, "its kernel is none that Cloud Hypervisor can boot",
            "boot.kernel has to be a Linux bzImage, or a vmlinux built with CONFIG_PVH"},
    Refusal{"Cannot open kernel file", Fault::kSpec, "Cloud Hypervisor cannot open its kernel", "check boot.kernel"},
    Refusal{"Kernel lacks PVH header", Fault::kSpec, "its kernel is uncompressed and cannot be booted directly",
            "give the bzImage (vmlinuz), or a vmlinux built with CONFIG_PVH"},
    Refusal{"initramfs", Fault::kSpec, "Cloud Hypervisor cannot load its initramfs", "check boot.initramfs"},
    Refusal{"locking disk images", Fault::kHost, "one of its disks is in use by another process",
            "give the disk \"clone\": true, or stop the VM that has it"},
    Refusal{"lock images", Fault::kHost, "one of its disks is in use by another process",
            "give the disk \"clone\": true, or stop the VM that has it"},
    Refusal{"tap interface", Fault::kHost, "Cloud Hypervisor cannot open its TAP device",
            "run as root, or make the device beforehand: ip tuntap add NAME mode tap user $USER"},
    Refusal{"Cannot allocate memory", Fault::kHost, "the host has not enough memory for it",
            "give the VM less memory, or reserve more huge pages: sudo sysctl vm.nr_hugepages=N (2 MiB each)"},
    Refusal{"No space left on device", Fault::kHost, "the host's disk is full",
            "free some space, or choose another place for VMs by MAYFLY_RUNTIME_DIR"},
    Refusal{"path to socket must be shorter", Fault::kHost, "the path of its directory is too long for a unix socket",
            "choose a shorter one by MAYFLY_RUNTIME_DIR"},
    Refusal{"/dev/kvm", Fault::kHost, "KVM cannot be used", "mayfly host -- CMD runs CMD where it can"},
    Refusal{"Failed to validate config", Fault::kSpec, "Cloud Hypervisor does not accept its configuration", ""},
};

}  // namespace

bool IsUp(const MachineStatus& status) {
  return status.state == MachineState::kRunning || status.state == MachineState::kReady;
}

ChMachine::ChMachine(Program program, MachineSpec spec, Sandbox sandbox, Patience patience)
    : Machine("ch", std::move(spec), std::move(sandbox)),
      program_(std::move(program)),
      patience_(patience),
      disks_(internal::PrepareDisks(spec_, sandbox_)) {
  if (spec_.tpm) internal::MakeTpmState(*spec_.tpm, sandbox_.Path(kTpmState));
  for (Nic& nic : spec_.nics) {
    if (!nic.mac.empty()) continue;
    nic.mac = internal::RandomMac();
    made_up_macs_.push_back(nic.id);
  }
  static_cast<void>(Config());  // what it cannot take is told now
}

ChMachine::~ChMachine() = default;

VmConfig ChMachine::Config() const { return ConfigOf(spec_, disks_, sandbox_.directory()); }

MachineInfo ChMachine::Info() const {
  return {.driver = driver(),
          .vmm = program_.Text(),
          .machine = "pc",
          .accelerator = "kvm",
          .accelerator_reason = "Cloud Hypervisor has no other",
          .command_line = CommandLineOf(program_.path.string(), Config(), console_path()),
          .pid = process_ ? process_->pid() : -1};
}

std::string ChMachine::WhyUnsupported(Capability capability) const { return std::string(RowOf(capability).reason); }

// --- Lifecycle ------------------------------------------------------------------------------------------------------

// It ends with each connection, and at each restart of its guest the VMM makes another.
std::unique_ptr<internal::Process> ChMachine::ServeShare(const Share& share, size_t index) const {
  return internal::ServeShareAgain(sandbox_.Inner(fmt::format("s{}", index)), share,
                                   internal::ShareSocket(sandbox_.directory(), index));
}

std::vector<std::unique_ptr<internal::Process>> ChMachine::StartServers() const {
  std::vector<std::unique_ptr<internal::Process>> servers;
  for (size_t i = 0; i < spec_.shares.size(); ++i) {
    servers.push_back(ServeShare(spec_.shares[i], i));
  }
  if (spec_.tpm) {
    servers.push_back(
        internal::ServeTpmAgain(sandbox_.Inner("tpm-server"), sandbox_.Path(kTpmState), sandbox_.Path(kTpmSocket)));
  }
  return servers;
}

VmmProcess::Options ChMachine::ProcessOptions(int agent_listener) {
  // Set where a TPM is slower than Cloud Hypervisor waits for it.
  const char* patience = std::getenv("MAYFLY_CH_TPM_PRELOAD");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return {.program = program_,
          .log = vmm_log_path(),
          .console = console_path(),
          .preload = spec_.tpm && patience != nullptr ? patience : "",
          .agent_listener = agent_listener,
          .on_event = [this](const VmmEvent& event) { OnEvent(event); },
          .on_exit = [this](const VmmExit& exit) { OnExit(exit); }};
}

void ChMachine::RequireDown(std::string_view what) const {
  MachineStatus now = status();
  if (!IsUp(now) && now.state != MachineState::kStarting) return;
  throw BadSpec({.summary = fmt::format("'{}' (ch) cannot {}: it is {} already", name(), what, ToString(now.state)),
                 .next_step = "Stop() or Kill() it first, or Reset() it"});
}

void ChMachine::Launch(std::string_view doing) {
  process_.reset();  // a run that failed and was left to be looked at
  added_servers_.clear();
  next_share_ = spec_.shares.size();
  ending_.clear();
  moving_to_.clear();
  receiving_.clear();
  reset_ = false;
  event_counts_.clear();
  added_.clear();
  shares_memory_ = false;
  awaited_.clear();
  std::error_code ignored;
  std::filesystem::remove(sandbox_.Path(kVsockFile), ignored);  // a VMM that was killed leaves it
  agent_listener_.Reset();
  serial_.reset();
  if (spec_.agent) agent_listener_ = internal::ListenOn(AgentSocket(sandbox_.directory()), kClientsWaiting);
  SetState(MachineState::kStarting, std::string(doing));
  try {
    VmmProcess::Options options = ProcessOptions(agent_listener_.get());
    options.servers = StartServers();
    if (spec_.serial != SerialKind::kFile) {
      serial_ = std::make_unique<SerialRelay>(
          spec_.serial, SerialRelay::Options{.log = console_path(), .socket = sandbox_.Path(kSerialSocket)});
      options.console = options.standard_input = serial_->vmm_terminal();
      timeline_.Add("ch", "serial", serial_->place());
    }
    process_ = std::make_unique<VmmProcess>(sandbox_, std::move(options));
  } catch (const Error& error) {
    SetState(MachineState::kFailed, error.text().summary);
    throw;
  }
}

void ChMachine::Begin(std::string_view what, std::string_view runs, const std::function<void(Api& api)>& begin) {
  try {
    begin(process_->api());
  } catch (Error& error) {
    ThrowStartFailed(what, error);
  }
  // A guest that was fast enough to power off by now is Stopped already.
  RunOnIoThread([&] {
    if (status().state == MachineState::kStarting) {
      SetState(MachineState::kRunning, fmt::format("{} {} ({})", program_.Text(), runs, program_.path.string()));
    }
  });
}

void ChMachine::Boot() {
  RequireDown("boot");
  Launch("booting");
  Begin("boot", "runs", [&](Api& api) {
    Deadline deadline = CallDeadline();
    VmConfig config = Config();
    // Of shared memory a snapshot has only what the guest has written to.
    if (ends_with_snapshot_) ShareMemory(config);
    api.Create(config, deadline);
    api.Boot(deadline);
  });
}

void ChMachine::ThrowStartFailed(std::string_view what, Error& trouble) {
  if (trouble.kind() == std::string_view("VmmDied")) process_->WaitForExit(Deadline::After(Scaled(seconds(2))));
  ErrorText text{.summary = fmt::format("cannot {} '{}' (ch): ", what, name())};
  text.notes.push_back(trouble.text().summary);
  for (const std::string& note : trouble.text().notes) text.notes.push_back(note);
  for (const std::string& line : process_->LastWords()) text.notes.push_back(line);
  text.notes.push_back(program_.Text());
  bool dead = internal::RunOnIoThread([&] { return status().state == MachineState::kFailed; });
  RunOnIoThread([&] { ending_ = fmt::format("could not {}", what); });
  process_->Kill();
  const std::string ended = status().reason;
  SetState(MachineState::kFailed, text.summary + trouble.text().summary);
  internal::ThrowIfKnown(kRefusals, text.notes, text);
  text.summary += dead ? ended : trouble.text().summary;
  text.next_step = what == "restore" ? "boot it instead: MAYFLY_FORK=off makes no copies"
                                     : fmt::format("all that Cloud Hypervisor wrote is in {}", vmm_log_path().string());
  throw VmmDied(std::move(text));
}

bool ChMachine::Stop(Duration grace) {
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

void ChMachine::Kill() {
  if (!process_) return;
  RunOnIoThread([&] { ending_ = "killed"; });
  process_->Kill();
  process_.reset();
  added_servers_.clear();
  // After a failure the process had been left for a look at it.
  if (status().state != MachineState::kStopped) SetState(MachineState::kStopped, "killed");
}

void ChMachine::Reset() {
  size_t from = timeline_.size();
  RunOnIoThread([&] { reset_ = true; });
  Ask("reset", [this](Api& api) { api.Reboot(CallDeadline()); });
  AwaitEvent(from, "rebooted", "", "restart");
}

internal::UniqueFd ChMachine::ConnectAgent() { return std::move(agent_listener_); }

// --- Events, on the I/O thread --------------------------------------------------------------------------------------

void ChMachine::OnEvent(const VmmEvent& event) {
  size_t count = ++event_counts_[event.name];
  std::string detail = event.source;
  for (const auto& [key, value] : event.properties) detail += fmt::format(" {}={}", key, value);
  if (event.source == "vm" && event.name == "rebooted" && IsUp(status())) {
    SetState(MachineState::kRunning, std::exchange(reset_, false) ? "the machine was reset" : "the guest restarted");
  } else if (event.source == "vm" && (event.name == "paused" || event.name == "resumed")) {
    MachineStatus now = status();
    now.paused = event.name == "paused";
    if (IsUp(now)) SetStatus(now);
  } else if (event.source == "vm" && event.name == "migration-receive-ready") {
    timeline_.Add("ch", "listening", ListeningAddress());
  } else if (event.source == "vm" && event.name == "migration-finished") {
    ending_ = "moved to " + moving_to_;
  } else if (event.source == "vm" && event.name == "shutdown" && ending_.empty() && IsUp(status())) {
    // Its guest is gone; the process has no more use.
    ending_ = "the guest powered off";
    if (process_) process_->Signal(SIGTERM);
  } else if (event.source == "guest" && event.name == "panic") {
    SetState(MachineState::kFailed, "the guest panicked");
    if (process_) process_->Signal(SIGKILL);
  }
  if (count <= kEventsKept) timeline_.Add("ch", event.name, detail);
  if (count == kEventsKept) timeline_.Add("ch", event.name, "further ones of this boot are not recorded");
}

void ChMachine::OnExit(const VmmExit& exit) {
  if (status().state == MachineState::kFailed) return;
  if (!ending_.empty()) return SetState(MachineState::kStopped, ending_);
  std::string reason = fmt::format("Cloud Hypervisor ended: {}", exit.status.ToString());
  if (exit.status.signal == SIGSYS) reason += ": its seccomp filter denied a system call";
  if (!exit.last_words.empty()) reason += "; " + exit.last_words.back();
  SetState(MachineState::kFailed, reason);
}

}  // namespace mayfly::ch
