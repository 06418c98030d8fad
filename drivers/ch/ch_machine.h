// A machine run by Cloud Hypervisor, in API mode.
//
// Disks are made in the constructor and stay until the destructor; each Boot starts a process of its own. States follow
// the event monitor and the end of the process, both seen on the I/O thread:
//
//   Stopped  the guest powered off (event vm/shutdown; the process is told to end then), Kill, or it was moved away
//   Running  the guest restarted, or Reset (vm/rebooted)
//   Failed   the guest panicked and has pvpanic (guest/panic; the process is ended, or the guest would restart), or the
//            process ended in any other way, with exit code 0 too: the reason is how, and its last words
//
// Each event is in the timeline by its name.
#pragma once

#include <mayfly/errors.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/machine.h>
#include <mayfly/snapshot.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/ch/config.h"
#include "drivers/ch/program.h"
#include "drivers/ch/serial_relay.h"
#include "drivers/ch/vmm_process.h"

namespace mayfly::ch {

// How long what may take. Tests have less of it.
struct Patience {
  Duration call = std::chrono::seconds(60);   // one call of the API
  Duration save = std::chrono::seconds(300);  // one that reads or writes all of a guest's memory, to a slow disk
  Duration guest = std::chrono::seconds(30);  // what the guest does by itself
};

class ChMachine final : public Machine {
 public:
  // `spec` has a kernel. Makes the disks: throws BadSpec, HostLacks.
  ChMachine(Program program, MachineSpec spec, Sandbox sandbox, Patience patience = {});
  // Takes over what another one has released.
  ChMachine(ReleasedMachine machine, internal::UniqueFd agent);
  ~ChMachine() override;

  MachineInfo Info() const override;

  void Boot() override;
  bool Stop(Duration grace) override;
  void Kill() override;
  void Reset() override;
  internal::UniqueFd ConnectAgent() override;

  void Pause() override;
  void Resume() override;
  void PowerButton() override;
  void ResizeCpus(uint32_t cpus) override;
  void ResizeMemory(Bytes memory) override;
  void ResizeZone(const std::string& id, Bytes size) override;
  void SetBalloon(Bytes size) override;
  void AddDisk(const Disk& disk) override;
  void ResizeDisk(const std::string& id, Bytes size) override;
  void AddNic(const Nic& nic) override;
  TapEnd HostEndOf(const std::string& nic) const override;
  void AddShare(const Share& share) override;
  void AddPmem(const Pmem& pmem) override;
  void AddPassthrough(const Passthrough& device) override;
  void RemoveDevice(const std::string& id) override;
  internal::UniqueFd ConnectVsock(uint32_t port) override;
  internal::UniqueFd ListenVsock(uint32_t port) override;
  void Snapshot(const std::filesystem::path& directory) override;
  void PrepareRestore(const std::filesystem::path& directory) override;
  void Restore(const std::filesystem::path& directory) override;
  // Copies share the memory in the snapshot itself, so nothing has to lie anywhere before.
  void KeepMemoryIn(const std::filesystem::path& /*directory*/) override { ends_with_snapshot_ = true; }
  ReleasedMachine Release() override;
  void SendMigration(const std::string& url) override;
  void ReceiveMigration(const std::string& url) override;
  std::map<std::string, std::map<std::string, uint64_t>> Counters() override;
  void InjectNmi() override;
  void CoreDump(const std::filesystem::path& file) override;

 protected:
  std::string WhyUnsupported(Capability capability) const override;

 private:
  ChMachine(const nlohmann::json& record, ReleasedMachine&& machine, internal::UniqueFd agent);

  Deadline CallDeadline() const { return Deadline::After(Scaled(patience_.call)); }
  Deadline SaveDeadline() const { return Deadline::After(Scaled(patience_.save)); }
  VmConfig Config() const;
  std::unique_ptr<internal::Process> ServeShare(const Share& share, size_t index) const;
  std::vector<std::unique_ptr<internal::Process>> StartServers() const;
  VmmProcess::Options ProcessOptions(int agent_listener);
  void RequireDown(std::string_view what) const;
  // Starts the process; `doing`: "booting".
  void Launch(std::string_view doing);
  // Lets it make the machine by `begin`, which runs then: "Cloud Hypervisor v53.0.0 <runs>".
  void Begin(std::string_view what, std::string_view runs, const std::function<void(Api& api)>& begin);
  [[noreturn]] void ThrowStartFailed(std::string_view what, Error& trouble);
  // The API of a machine that is up; BadSpec names `what` otherwise.
  Api& Running(const char* what);
  // Makes a call, and adds to its error what is known of the machine.
  template <typename Call>
  auto Ask(const char* what, Call call) -> decltype(call(std::declval<Api&>()));
  void AwaitEvent(size_t from, const std::string& name, const std::string& detail, const std::string& what);
  void RequireNewId(const std::string& id) const;

  SnapshotInfo InfoOfSnapshot() const;
  void RequireSavable() const;
  void SaveState(const std::filesystem::path& directory);
  void StartRestore(const std::filesystem::path& directory);
  void RequireMovable(const std::string& url) const;
  std::string ListeningAddress() const;
  [[noreturn]] void ThrowNotMoved(const std::string& url, std::vector<std::string> notes);
  void AwaitReturn();

  // On the I/O thread.
  void OnEvent(const VmmEvent& event);
  void OnExit(const VmmExit& exit);

  const Program program_;
  const Patience patience_{};
  std::vector<std::string> made_up_macs_;  // NICs whose address nobody asked for
  std::vector<internal::PreparedDisk> disks_;
  bool ends_with_snapshot_ = false;  // see KeepMemoryIn
  bool shares_memory_ = false;       // this run is a copy that maps the memory of its snapshot
  std::filesystem::path awaited_;    // what PrepareRestore has started this run for
  std::set<std::string> added_;      // of this run: what can be removed
  std::vector<std::unique_ptr<internal::Process>> added_servers_;  // of this run: those of what was added
  size_t next_share_ = 0;  // of this run: the number of the next socket of a share
  internal::UniqueFd agent_listener_;
  std::unique_ptr<SerialRelay> serial_;  // of this run, where somebody speaks with the guest
  std::string ending_;     // on the I/O thread: the reason for which this run's end is expected; empty: it is not
  std::string moving_to_;  // on the I/O thread: where a migration goes that is under way
  std::string receiving_;  // the address at which this run awaits a migration
  bool reset_ = false;     // on the I/O thread: the next restart is ours
  std::map<std::string, size_t> event_counts_;  // on the I/O thread: this run's
  std::unique_ptr<VmmProcess> process_;         // last: its end tells the members above
};

}  // namespace mayfly::ch
