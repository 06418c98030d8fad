// What is behind a Vm: the machine, its console, and the agent in its guest.
#pragma once

#include <fmt/format.h>
#include <mayfly/agent.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/console_log.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/live_vms.h>
#include <mayfly/vm.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mayfly {
namespace internal {

bool IsUp(const MachineStatus& status);
bool IsDown(const MachineStatus& status);

// The sandbox of a new VM, which the pool owns. Waits for admission; throws what Lease::Open does.
Sandbox SandboxFor(const MachineSpec& spec);
// The same for one that goes on from another.
Sandbox SandboxForCopy(const MachineSpec& spec);

}  // namespace internal

class Vm::Impl final : public internal::LiveVm {
 public:
  Impl(std::unique_ptr<Machine> machine, MachineSpec asked) : machine_(std::move(machine)), asked_(std::move(asked)) {
    Watch();
  }

  ~Impl() {
    internal::NotifyVmGoing(*this, std::uncaught_exceptions() > exceptions_before_);
    Unwatch();
  }

  // A machine that the pool had ready, called spec.name if that says something.
  static std::unique_ptr<Impl> Adopt(Driver& driver, internal::Lease::Fork fork, MachineSpec spec);

  void Boot();
  // The machine runs already, and its guest has answered in that session, if there is one.
  void TakeOver(std::optional<AgentSession> session);
  // Restores the machine from a snapshot, as a guest with that identity.
  void GoOnFrom(const std::filesystem::path& snapshot, const GuestIdentity& identity);
  void FixUp(const GuestIdentity& identity);
  // Machine::Snapshot with the guest's processes stopped meanwhile.
  void Save(const std::filesystem::path& directory);
  void AwaitReady(size_t from, Clock::time_point began, Deadline deadline, std::string_view doing);
  bool Stop(Duration grace);
  void Kill();
  void Reboot(Duration timeout);
  void Reset();
  const std::string& Name() const override { return machine_->name(); }
  std::string Describe() const override;
  void WriteArtifacts(const std::filesystem::path& directory) override;
  void Freeze(const std::filesystem::path& directory) override;

  // Runs an operation of the guest; an error gets what the machine and its console say.
  template <typename Operation>
  auto InGuest(std::string_view doing, Operation operation) -> decltype(operation(std::declval<Agent&>()));

  Machine& machine() { return *machine_; }
  const MachineSpec& asked() const { return asked_; }
  // Files of the host that were uploaded, with those in directories.
  const std::vector<std::filesystem::path>& uploads() const { return uploads_; }
  void AddUpload(const std::filesystem::path& from) {
    if (watch_uploads_) uploads_.push_back(from);
  }
  void WatchUploads() { watch_uploads_ = true; }
  // Goes on with another machine, which is down. This one is kept, killed: the files of its sandbox may be needed.
  void Replace(std::unique_ptr<Machine> machine);
  // Where vm.Snapshot keeps what it saves: in the first machine's sandbox.
  std::filesystem::path SnapshotDirectory(std::string_view name) const;
  // For the machine that Replace gets: under the same lease, so that going back takes no more of the host.
  Sandbox NextSandbox() const;
  internal::ConsoleLog& console() { return *console_; }
  std::string Title() const { return fmt::format("'{}' ({})", machine_->name(), machine_->driver()); }

 private:
  void Watch();
  void Unwatch();
  void OnConsoleLine(std::string_view line);
  void OnEvent(const Event& event);
  void Explain(Error& error);
  // Throws it again with what the machine and its console say, as VmmDied when the VMM is what failed.
  [[noreturn]] void ThrowExplained(GuestFailed error);
  [[noreturn]] void ThrowNotReady(const std::optional<Event>& why, Clock::time_point began, std::string_view doing);
  // Both or none: what AgentOptions say of them.
  void ConnectAgent(std::optional<GuestIdentity> copy = {}, std::optional<AgentSession> session = {});
  const Sandbox& FirstSandbox() const;
  // How long the guest may take until its agent answers.
  Duration BootTimeout() const;

  std::vector<std::unique_ptr<Machine>> former_;  // goes last: disks of machine_ lie on files of theirs
  std::unique_ptr<Machine> machine_;
  const int exceptions_before_ = std::uncaught_exceptions();
  const MachineSpec asked_;  // before its image was filled in: what a person writes to get the same VM
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<internal::ConsoleLog> console_;
  Timeline::Subscription subscription_;
  bool watch_uploads_ = false;
  std::vector<std::filesystem::path> uploads_;
};

template <typename Operation>
auto Vm::Impl::InGuest(std::string_view doing, Operation operation) -> decltype(operation(std::declval<Agent&>())) {
  if (!asked_.agent) {
    throw BadSpec(
        {.summary = fmt::format("{}: cannot {}: this VM has no agent (\"agent\": false in its spec)", Title(), doing),
         .next_step = "use an image with mayfly's agent, or what the console shows (WaitForConsole)"});
  }
  if (!agent_ || !internal::IsUp(machine_->status())) {
    throw GuestFailed(
        {.summary = fmt::format("{}: cannot {}: the VM is not up", Title(), doing),
         .notes = {fmt::format("state: {}, {}", ToString(machine_->status().state), machine_->status().reason)},
         .next_step = "Boot() it first"});
  }
  try {
    // Between the end of one agent and the hello of the next, which its service manager or the guest's next boot
    // starts.
    if (agent_->connected() && !agent_->hello()) agent_->WaitForHello(Deadline::After(BootTimeout()));
    return operation(*agent_);
  } catch (const GuestFailed& error) {
    ThrowExplained(error);
  } catch (Error& error) {
    Explain(error);
    throw;
  }
}

}  // namespace mayfly
