#include <mayfly/vm.h>

#include <fmt/format.h>
#include <mayfly/agent.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/shell_words.h>
#include <mayfly/internal/vm_impl.h>
#include <mayfly/snapshot.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <utility>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr size_t kTailLines = 10;
constexpr std::string_view kReadyMarker = "VMRS_READY";
constexpr std::string_view kPanicMarker = "Kernel panic - not syncing";

std::string MadeUpName(const MachineSpec& spec) {
  std::random_device random;
  return fmt::format("{}-{:04x}", spec.image.empty() ? "vm" : spec.image, random() & 0xffff);
}

void CopyIfThere(const fs::path& from, const fs::path& to) {
  std::error_code ignored;
  if (fs::exists(from, ignored)) fs::copy_file(from, to, fs::copy_options::overwrite_existing);
}

}  // namespace

namespace internal {

namespace {

Sandbox SandboxOf(std::shared_ptr<Lease> lease) {
  std::filesystem::path directory = lease->directory();
  return Sandbox::OwnedBy(std::move(lease), std::move(directory));
}

}  // namespace

Sandbox SandboxFor(const MachineSpec& spec) { return SandboxOf(Lease::Open(RequestFor(spec))); }

Sandbox SandboxForCopy(const MachineSpec& spec) {
  LeaseRequest request = RequestFor(spec);
  request.copy = true;
  return SandboxOf(Lease::Open(request));
}

bool IsUp(const MachineStatus& status) {
  return status.state == MachineState::kRunning || status.state == MachineState::kReady;
}

bool IsDown(const MachineStatus& status) {
  return status.state == MachineState::kStopped || status.state == MachineState::kFailed;
}

}  // namespace internal

using internal::IsDown;
using internal::IsUp;

void Vm::Impl::Watch() {
  console_ = std::make_unique<internal::ConsoleLog>(machine_->console_path(),
                                                    [this](std::string_view line) { OnConsoleLine(line); });
  subscription_ = machine_->timeline().Subscribe([this](const Event& event) { OnEvent(event); });
  internal::AddLiveVm(this);
}

void Vm::Impl::Unwatch() {
  internal::RemoveLiveVm(this);
  // The machine's death is what this object wants now: nobody shall be told of it.
  subscription_.reset();
  internal::RunOnIoThread([] {});  // a callback that runs there now ends first
  agent_.reset();
  console_.reset();
}

void Vm::Impl::Replace(std::unique_ptr<Machine> machine) {
  Unwatch();
  machine_->Kill();
  former_.push_back(std::exchange(machine_, std::move(machine)));
  Watch();
}

const Sandbox& Vm::Impl::FirstSandbox() const {
  Machine& first = former_.empty() ? *machine_ : *former_.front();
  return first.sandbox();
}

fs::path Vm::Impl::SnapshotDirectory(std::string_view name) const {
  return FirstSandbox().Path(fmt::format("snapshot-{}", name));
}

Sandbox Vm::Impl::NextSandbox() const { return FirstSandbox().Inner(fmt::format("r{}", former_.size() + 1)); }

void Vm::Impl::OnConsoleLine(std::string_view line) {
  if (line.find(kPanicMarker) != std::string_view::npos) {
    machine_->timeline().Add("console", "panic", std::string(line));
  } else if (line.starts_with(kReadyMarker)) {
    machine_->timeline().Add("console", "ready", std::string(line));
  }
}

void Vm::Impl::OnEvent(const Event& event) {
  bool by_agent = asked_.agent && event.source == "agent" && event.name == "hello";
  bool by_line = !asked_.agent && event.source == "console" && event.name == "ready";
  if (by_agent || by_line) machine_->MarkReady(event.detail);
}

void Vm::Impl::ConnectAgent(std::optional<GuestIdentity> copy, std::optional<AgentSession> session) {
  agent_.reset();
  internal::UniqueFd channel = machine_->ConnectAgent();
  if (!channel) return;
  agent_ =
      std::make_unique<Agent>(std::move(channel), machine_->timeline(),
                              AgentOptions{.name = machine_->name(),
                                           .transcript = machine_->sandbox().Path("agent.log"),
                                           .copy = std::move(copy),
                                           .session = std::move(session),
                                           .explain = [this](const GuestFailed& error) { ThrowExplained(error); }});
}

Duration Vm::Impl::BootTimeout() const {
  if (asked_.boot_timeout > Duration::zero()) return asked_.boot_timeout;
  return Scaled(asked_.boot.firmware.empty() ? seconds(60) : seconds(180));
}

void Vm::Impl::Boot() {
  Clock::time_point began = Clock::now();
  Deadline deadline = Deadline::After(BootTimeout());
  console_->BeginBoot();
  size_t from = machine_->timeline().size();
  machine_->Boot();
  ConnectAgent();
  AwaitReady(from, began, deadline, "boot");
}

void Vm::Impl::TakeOver(std::optional<AgentSession> session) {
  Clock::time_point began = Clock::now();
  console_->BeginBoot();
  size_t from = machine_->timeline().size();
  ConnectAgent({}, std::move(session));
  AwaitReady(from, began, Deadline::After(BootTimeout()), "take over");
}

void Vm::Impl::GoOnFrom(const fs::path& snapshot, const GuestIdentity& identity) {
  Clock::time_point began = Clock::now();
  Deadline deadline = Deadline::After(BootTimeout());
  // Into the file that is followed already, and before this run begins: a panic of long ago is none of now.
  CopyIfThere(snapshot / kSnapshotConsole, machine_->console_path());
  console_->BeginBoot();
  size_t from = machine_->timeline().size();
  machine_->Restore(snapshot);
  ConnectAgent(identity);
  AwaitReady(from, began, deadline, "restore");
  InGuest("set clock and entropy", [&](Agent& agent) { agent.WaitForHello(deadline); });
}

void Vm::Impl::FixUp(const GuestIdentity& identity) {
  InGuest("set clock and entropy", [&](Agent& agent) { agent.FixUp(identity); });
}

void Vm::Impl::Save(const fs::path& directory) {
  InGuest("stop its processes", [](Agent& agent) { agent.Quiesce(); });
  try {
    machine_->Snapshot(directory);
  } catch (const Error&) {
    if (IsUp(machine_->status())) FixUp({});
    throw;
  }
  if (IsUp(machine_->status())) FixUp({});
}

void Vm::Impl::AwaitReady(size_t from, Clock::time_point began, Deadline deadline, std::string_view doing) {
  auto refused = [](const Event& event) { return event.source == "agent" && event.name == "refused"; };
  auto over = [&](const Event& event) {
    if (refused(event) || event.name == "panic" || event.name == "GUEST_PANICKED") return true;
    if (event.source != "mayfly" || event.name != "state") return false;
    // A guest that got ready and was reset since then is awaited anew.
    if (event.detail.starts_with("Ready")) return machine_->status().state == MachineState::kReady;
    return event.detail.starts_with("Stopped") || event.detail.starts_with("Failed");
  };
  // The state is asked besides the event: a machine that was handed over may have died before `from`.
  bool down = IsDown(machine_->status());
  std::optional<Event> event = machine_->timeline().WaitFor(over, down ? Deadline::After({}) : deadline, from);
  if (down && !event) event = Event{.source = "mayfly", .name = "state"};
  if (machine_->status().state == MachineState::kReady && event && event->source == "mayfly") return;
  if (event && refused(*event)) InGuest(doing, [&](Agent& agent) { agent.WaitForHello(deadline); });  // throws why
  ThrowNotReady(event, began, doing);
}

void Vm::Impl::ThrowNotReady(const std::optional<Event>& why, Clock::time_point began, std::string_view doing) {
  MachineStatus status = machine_->status();
  std::string took = ForPeople(Duration(Clock::now() - began));
  std::string where = fmt::format("{} ({}, {})", machine_->name(), machine_->driver(), machine_->Info().machine);
  ErrorText text{.notes = {}, .next_step = {}};
  std::string tail = console_->Tail(kTailLines);
  text.notes.push_back(tail.empty() ? "console: (nothing)" : "console: …\n" + tail);
  machine_->Kill();
  if (!why) {
    text.summary = fmt::format("cannot {} {}: not ready after {}", doing, where, took);
    text.next_step = asked_.agent ? "no agent has answered; a guest without it needs \"agent\": false in its spec and "
                                    "prints a line VMRS_READY; a slow host needs "
                                  : "the guest prints a line that begins with VMRS_READY on its first serial port when "
                                    "it is ready; a slow host needs ";
    text.next_step +=
        asked_.boot_timeout > Duration::zero() ? "a longer boot_timeout in the spec" : "MAYFLY_TIMEOUT_FACTOR";
    throw Timeout(std::move(text));
  }
  if (why->source != "mayfly") {
    text.summary = fmt::format("cannot {} {}: the guest panicked after {}, before it was ready", doing, where, took);
    text.notes.insert(text.notes.begin(), why->detail);
    throw BootFailed(std::move(text));
  }
  text.summary = fmt::format("cannot {} {}: {} after {}, before it was ready", doing, where, status.reason, took);
  if (status.state == MachineState::kFailed) throw VmmDied(std::move(text));
  throw BootFailed(std::move(text));
}

bool Vm::Impl::Stop(Duration grace) {
  Deadline deadline = Deadline::After(grace);
  if (IsDown(machine_->status())) return true;
  if (machine_->status().paused) machine_->Resume();  // a guest that stands still hears nothing
  if (agent_ && machine_->status().state == MachineState::kReady) {
    try {
      agent_->PowerOff(deadline);
      machine_->WaitForStatus(IsDown, "power off", deadline);
      return machine_->status().state == MachineState::kStopped;
    } catch (const Timeout&) {
      machine_->Kill();
      return false;
    } catch (const GuestFailed&) {
      // The agent is gone: the power button is what is left.
    }
  }
  return machine_->Stop(deadline.Remaining());
}

void Vm::Impl::Kill() {
  machine_->Kill();
  agent_.reset();
}

void Vm::Impl::Reboot(Duration timeout) {
  Clock::time_point began = Clock::now();
  Deadline deadline = Deadline::After(timeout > Duration::zero() ? timeout : BootTimeout());
  console_->BeginBoot();
  size_t from = machine_->timeline().size();
  InGuest("reboot", [deadline](Agent& agent) { agent.Reboot(deadline); });
  AwaitReady(from, began, deadline, "reboot");
}

void Vm::Impl::Reset() {
  Clock::time_point began = Clock::now();
  console_->BeginBoot();
  size_t from = machine_->timeline().size();
  machine_->Reset();
  AwaitReady(from, began, Deadline::After(BootTimeout()), "reset");
}

void Vm::Impl::ThrowExplained(GuestFailed error) {
  if (!agent_->hello()) {
    // The channel closes a moment before it is known whether the VMM ended or the guest restarted: which of the two it
    // was makes another error.
    auto known = [](const MachineStatus& status) { return status.state != MachineState::kReady; };
    try {
      machine_->WaitForStatus(known, "end of the VMM", Deadline::After(Scaled(seconds(2))));
    } catch (const Timeout&) {
    }
  }
  Explain(error);
  if (machine_->status().state == MachineState::kFailed) throw VmmDied(error.text());
  throw error;
}

void Vm::Impl::Explain(Error& error) {
  MachineStatus status = machine_->status();
  error.AddNote(
      fmt::format("{}: {}{}, {}", Title(), ToString(status.state), status.paused ? ", paused" : "", status.reason));
  if (IsDown(status) || error.kind() == std::string_view("Timeout")) {
    std::string tail = console_->Tail(kTailLines);
    if (!tail.empty()) error.AddNote("console: …\n" + tail);
  }
}

std::string Vm::Impl::Describe() const {
  MachineStatus status = machine_->status();
  std::string out =
      fmt::format("  {}: {}{}, {}\n", Title(), ToString(status.state), status.paused ? ", paused" : "", status.reason);
  std::vector<Event> events = machine_->timeline().Events();
  if (!events.empty()) {
    const Event& last = events.back();
    out += fmt::format("  last event, at {}: {} {} {}\n", ForPeople(last.at), last.source, last.name, last.detail);
  }
  std::string tail = console_->Tail(kTailLines);
  return out + (tail.empty() ? "  console: (nothing)\n" : "  console: …\n" + tail + "\n");
}

void Vm::Impl::WriteArtifacts(const fs::path& directory) {
  fs::create_directories(directory);
  CopyIfThere(machine_->console_path(), directory / "console.log");
  CopyIfThere(machine_->vmm_log_path(), directory / "vmm.log");
  CopyIfThere(machine_->sandbox().Path("agent.log"), directory / "agent.log");
  MachineSpec spec = asked_;
  std::ofstream(directory / "spec.json") << ToJson(spec) << "\n";
  std::ofstream(directory / "timeline.json") << machine_->timeline().ToJson();
  MachineInfo info = machine_->Info();
  std::ofstream script(directory / "reproduce.sh");
  script << "#!/bin/sh\n"
         << "# Boots the same machine and gives a shell in it, or runs the command in the arguments.\n"
         << "# The VMM was " << info.vmm << " (" << info.machine << ", " << info.accelerator << "), started as:\n"
         << "#   " << internal::ShellLine(info.command_line) << "\n"
         << "here=$(cd \"$(dirname \"$0\")\" && pwd)\n"
         << "if [ -t 0 ] && [ -t 1 ]; then terminal=-it; fi\n"
         // Paths of the spec may be relative to it.
         << "cd " << internal::ShellWord(fs::current_path().native()) << " || exit\n"
         << "exec mayfly run --spec \"$here/spec.json\" $terminal -- \"${@:-/bin/sh}\"\n";
  script.close();
  chmod((directory / "reproduce.sh").c_str(), 0755);
}

// --- Vm
// ---------------------------------------------------------------------------------------------------------------

Vm::Vm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Vm::Vm(Vm&&) noexcept = default;
Vm& Vm::operator=(Vm&&) noexcept = default;
Vm::~Vm() = default;

Vm Vm::Create(MachineSpec spec, const Progress& progress) {
  if (spec.name.empty()) spec.name = MadeUpName(spec);
  Validate(spec);
  Driver& driver = FindDriver(spec.driver);
  MachineSpec resolved = ResolveImage(spec, progress);
  std::unique_ptr<Machine> machine = driver.Create(resolved, internal::SandboxFor(spec));
  return Vm(std::make_unique<Impl>(std::move(machine), std::move(spec)));
}

Vm Vm::Boot(MachineSpec spec) {
  Vm vm = Create(std::move(spec));
  vm.Boot();
  return vm;
}

const std::string& Vm::name() const { return impl_->machine().name(); }
Machine& Vm::machine() { return impl_->machine(); }
const Machine& Vm::machine() const { return impl_->machine(); }
MachineStatus Vm::status() const { return impl_->machine().status(); }

void Vm::Boot() { impl_->Boot(); }
bool Vm::Stop(Duration grace) { return impl_->Stop(grace); }
void Vm::Kill() { impl_->Kill(); }
void Vm::Reboot(Duration timeout) { impl_->Reboot(timeout); }
void Vm::Reset() { impl_->Reset(); }

ExecResult Vm::Exec(const Command& command, const ExecOptions& options) {
  return impl_->InGuest("run `" + command.text() + "`", [&](Agent& agent) { return agent.Exec(command, options); });
}

GuestProcess Vm::Start(const Command& command, const StartOptions& options) {
  return impl_->InGuest("start `" + command.text() + "`", [&](Agent& agent) { return agent.Start(command, options); });
}

void Vm::Upload(const fs::path& from, std::string_view to) {
  impl_->AddUpload(from);
  impl_->InGuest("upload", [&](Agent& agent) { agent.Upload(from, to); });
}

void Vm::Download(std::string_view from, const fs::path& to) {
  impl_->InGuest("download", [&](Agent& agent) { agent.Download(from, to); });
}

std::string Vm::ReadFile(std::string_view path, Bytes limit) {
  return impl_->InGuest("read a file", [&](Agent& agent) { return agent.ReadFile(path, limit); });
}

void Vm::WriteFile(std::string_view path, std::string_view content, uint32_t mode) {
  impl_->InGuest("write a file", [&](Agent& agent) { agent.WriteFile(path, content, mode); });
}

std::optional<GuestFile> Vm::Stat(std::string_view path) {
  return impl_->InGuest("look at a file", [&](Agent& agent) { return agent.Stat(path); });
}

PortForward Vm::ForwardToGuest(uint16_t guest_port) {
  return impl_->InGuest("forward a port", [&](Agent& agent) { return agent.ForwardToGuest(guest_port); });
}

PortForward Vm::ForwardToHost(uint16_t host_port, uint16_t guest_port) {
  return impl_->InGuest("forward a port", [&](Agent& agent) { return agent.ForwardToHost(host_port, guest_port); });
}

void Vm::WaitForPort(uint16_t port, Duration timeout) {
  impl_->InGuest("wait for a port", [&](Agent& agent) { agent.WaitForPort(port, timeout); });
}

void Vm::WaitForFile(std::string_view path, Duration timeout) {
  impl_->InGuest("wait for a file", [&](Agent& agent) { agent.WaitForFile(path, timeout); });
}

void Vm::WaitForUnit(std::string_view unit, Duration timeout) {
  impl_->InGuest("wait for a unit", [&](Agent& agent) { agent.WaitForUnit(unit, timeout); });
}

ExecResult Vm::WaitUntilSucceeds(const Command& command, Duration timeout) {
  return impl_->InGuest("wait for a command", [&](Agent& agent) { return agent.WaitUntilSucceeds(command, timeout); });
}

void Vm::WaitForConsole(std::string_view text, Duration timeout) {
  if (impl_->console().WaitFor(text, Deadline::After(timeout))) return;
  std::string tail = impl_->console().Tail(kTailLines);
  throw Timeout({.summary = fmt::format("{}: the console did not show \"{}\" within {}", impl_->Title(), text,
                                        ForPeople(timeout)),
                 .notes = {tail.empty() ? "console: (nothing)" : "console: …\n" + tail}});
}

std::string Vm::console() const { return impl_->console().Text(); }

void Vm::Sync() {
  impl_->InGuest("sync", [](Agent& agent) { agent.Sync(); });
}

void Vm::FixClockAndEntropy() {
  impl_->InGuest("set the clock", [](Agent& agent) { agent.FixUp(); });
}

void Vm::WriteArtifacts(const fs::path& directory) { impl_->WriteArtifacts(directory); }

}  // namespace mayfly
