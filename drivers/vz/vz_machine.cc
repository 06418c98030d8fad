#include "drivers/vz/vz_machine.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "drivers/vz/capabilities.h"
#include "drivers/vz/request.h"

namespace mayfly::vz {
namespace {

using nlohmann::json;
using std::chrono::seconds;

bool IsUp(const MachineStatus& status) {
  return status.state == MachineState::kRunning || status.state == MachineState::kReady;
}

Deadline CallDeadline() { return Deadline::After(Scaled(seconds(60))); }

}  // namespace

VzMachine::VzMachine(HelperProbe helper, MachineSpec spec, Sandbox sandbox)
    : Machine("vz", std::move(spec), std::move(sandbox)),
      helper_(std::move(helper)),
      disks_(PrepareRawDisks(spec_, sandbox_)) {
  for (Nic& nic : spec_.nics) {
    if (nic.mac.empty()) nic.mac = internal::RandomMac();
  }
}

VzMachine::~VzMachine() = default;

MachineInfo VzMachine::Info() const {
  return {.driver = driver(),
          .vmm = helper_.Text(),
          .machine = "generic",
          .accelerator = helper_.simulated ? "simulated" : "hypervisor.framework",
          .accelerator_reason =
              helper_.simulated ? "the guest is run by " + helper_.guests_by : "the framework has no other",
          .command_line = {helper_.program.string(), "serve"},
          .pid = process_ ? process_->pid() : -1};
}

std::string VzMachine::WhyUnsupported(Capability capability) const { return std::string(RowOf(capability).reason); }

// --- Lifecycle ----------------------------------------------------------------------------------------------------
void VzMachine::Launch() {
  process_.reset();  // a run that failed and was left to be looked at
  ending_.clear();
  agent_.Reset();
  SetState(MachineState::kStarting, "booting");
  try {
    process_ = std::make_unique<HelperProcess>(
        sandbox_, HelperProcess::Options{.program = helper_.program,
                                         .log = vmm_log_path(),
                                         .on_event = [this](const json& event) { OnEvent(event); },
                                         .on_exit = [this](const HelperExit& exit) { OnExit(exit); }});
  } catch (const Error& error) {
    SetState(MachineState::kFailed, error.text().summary);
    throw;
  }
}

void VzMachine::Start() {
  CreateRequest request = MakeCreateRequest(spec_, disks_, sandbox_, identifier_);
  Deadline deadline = CallDeadline();
  json made = process_->Call("create", std::move(request.body), request.descriptors, deadline);
  identifier_ = made.at("machine_identifier").get_binary();
  agent_ = std::move(request.agent);
  request.descriptors.clear();  // the helper has them: the channel ends with it
  process_->Call("start", json::object(), {}, deadline);
  if (spec_.balloon && spec_.balloon->size > Bytes()) {
    process_->Call("balloon", {{"memory", (spec_.memory - spec_.balloon->size).count()}}, {}, deadline);
  }
}

void VzMachine::Boot() {
  MachineStatus now = status();
  if (IsUp(now) || now.state == MachineState::kStarting) {
    throw BadSpec({.summary = fmt::format("'{}' (vz) cannot boot: it is {} already", name(), ToString(now.state)),
                   .next_step = "Stop() or Kill() it first, or Reset() it"});
  }
  Launch();
  try {
    Start();
  } catch (Error& error) {
    ThrowStartFailed(error);
  }
  // A guest that was fast enough to power off by now is Stopped already.
  std::lock_guard lock(mutex_);
  if (status().state == MachineState::kStarting) {
    SetState(MachineState::kRunning, fmt::format("{} runs ({})", helper_.Text(), helper_.program.string()));
  }
}

void VzMachine::ThrowStartFailed(Error& trouble) {
  bool died = trouble.kind() == std::string_view("VmmDied");
  if (died) process_->WaitForExit(Deadline::After(Scaled(seconds(2))));
  trouble.AddNote(fmt::format("cannot boot '{}' (vz, {})", name(), helper_.Text()));
  for (const std::string& line : process_->LastWords()) trouble.AddNote(line);
  {
    std::lock_guard lock(mutex_);
    ending_ = "could not be booted";
  }
  process_->Kill();
  SetState(MachineState::kFailed, trouble.text().summary);
  throw;  // what is being handled, with its notes
}

bool VzMachine::Stop(Duration grace) {
  Deadline deadline = Deadline::After(grace);
  if (!process_ || !IsUp(status())) {
    Kill();
    return true;
  }
  try {
    if (status().paused) Resume();
    PowerButton();
    if (process_->WaitForExit(deadline)) return status().state == MachineState::kStopped;
  } catch (const Error&) {
    // It ended by itself just now.
  }
  Kill();
  return false;
}

void VzMachine::Kill() {
  if (!process_) return;
  bool up = IsUp(status());
  {
    std::lock_guard lock(mutex_);
    if (ending_.empty()) ending_ = "killed";
  }
  try {
    // The framework's own stop returns when the guest is gone; a helper's end is only followed by that.
    constexpr auto kAllowance = seconds(5);
    if (up) process_->Call("stop", json::object(), {}, Deadline::After(Scaled(kAllowance)));
  } catch (const Error&) {
    // The end of the helper ends it all the same.
  }
  process_->Kill();
  process_.reset();
  // After a failure the helper's end was no news.
  if (status().state != MachineState::kStopped) SetState(MachineState::kStopped, "killed");
}

void VzMachine::Reset() {
  Ask("reset", "reset");
  std::lock_guard lock(mutex_);
  if (IsUp(status())) SetState(MachineState::kRunning, "the machine was reset");
}

internal::UniqueFd VzMachine::ConnectAgent() { return std::move(agent_); }

// --- Operations ---------------------------------------------------------------------------------------------------
void VzMachine::Ask(const char* what, const std::string& operation, json body) {
  if (!process_ || !IsUp(status())) {
    throw BadSpec({.summary = fmt::format("'{}' (vz) cannot {}: it is {}", name(), what, ToString(status().state)),
                   .notes = {status().reason},
                   .next_step = "Boot() it first"});
  }
  try {
    process_->Call(operation, std::move(body), {}, CallDeadline());
  } catch (VmmDied& error) {
    process_->WaitForExit(Deadline::After(Scaled(seconds(2))));  // how it ended is known then
    error.AddNote(fmt::format("'{}' (vz): {}", name(), status().reason));
    throw;
  } catch (Error& error) {
    error.AddNote(fmt::format("on the attempt to {} '{}' (vz)", what, name()));
    throw;
  }
}

void VzMachine::SetPaused(bool paused) {
  std::lock_guard lock(mutex_);
  MachineStatus now = status();
  now.paused = paused;
  if (IsUp(now)) SetStatus(now);
}

void VzMachine::Pause() {
  Ask("pause", "pause");
  SetPaused(true);
}

void VzMachine::Resume() {
  Ask("resume", "resume");
  SetPaused(false);
}

void VzMachine::PowerButton() { Ask("press the power button of", "request_stop"); }

void VzMachine::SetBalloon(Bytes size) {
  if (!spec_.balloon) {
    throw BadSpec({.summary = fmt::format("'{}' has no balloon", name()), .next_step = "give its spec a balloon"});
  }
  if (size >= spec_.memory) {
    throw BadSpec({.summary = fmt::format("balloon: \"{}\" is all of the guest's memory ({})", ToString(size),
                                          ToString(spec_.memory))});
  }
  Ask("set the balloon of", "balloon", {{"memory", (spec_.memory - size).count()}});
}

// --- Events, on the helper's thread -------------------------------------------------------------------------------
void VzMachine::OnEvent(const json& event) {
  std::string event_name = event.value("event", "");
  const json error = event.value("error", json());
  timeline_.Add("vz", event_name, error.is_object() ? error.value("summary", "") : event.value("state", ""));
  if (event_name != "stopped") return;
  std::lock_guard lock(mutex_);
  if (error.is_object()) {
    SetState(MachineState::kFailed, error.value("summary", "the virtual machine ended"));
  } else if (ending_.empty()) {
    ending_ = "the guest powered off";
  }
  process_->Signal(SIGKILL);  // it has no more use
}

void VzMachine::OnExit(const HelperExit& exit) {
  std::lock_guard lock(mutex_);
  if (status().state == MachineState::kFailed) return;
  if (!ending_.empty()) return SetState(MachineState::kStopped, ending_);
  std::string reason = fmt::format("mayfly-vz ended: {}", exit.status.ToString());
  if (!exit.trouble.empty()) reason += "; " + exit.trouble;
  if (!exit.last_words.empty()) reason += "; " + exit.last_words.back();
  SetState(MachineState::kFailed, reason);
}

}  // namespace mayfly::vz
