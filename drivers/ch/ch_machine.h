// A machine run by Cloud Hypervisor, in API mode.
//
// Disks are made in the constructor and stay until the destructor; each Boot starts a process of its own. States follow
// the event monitor and the end of the process, both seen on the I/O thread:
//
//   Stopped  the guest powered off (event vm/shutdown; the process is told to end then), or Kill
//   Running  the guest restarted, or Reset (vm/rebooted)
//   Failed   the guest panicked and has pvpanic (guest/panic; the process is ended, or the guest would restart), or the
//            process ended in any other way, with exit code 0 too: the reason is how, and its last words
//
// Each event is in the timeline by its name.
#pragma once

#include <mayfly/errors.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/machine.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "drivers/ch/config.h"
#include "drivers/ch/program.h"
#include "drivers/ch/vmm_process.h"

namespace mayfly::ch {

class ChMachine final : public Machine {
 public:
  // `spec` has a kernel. Makes the disks: throws BadSpec, HostLacks.
  ChMachine(Program program, MachineSpec spec, Sandbox sandbox);
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
  void RemoveDevice(const std::string& id) override;
  internal::UniqueFd ConnectVsock(uint32_t port) override;
  std::map<std::string, std::map<std::string, uint64_t>> Counters() override;
  void InjectNmi() override;
  void CoreDump(const std::filesystem::path& file) override;

 protected:
  std::string WhyUnsupported(Capability capability) const override;

 private:
  VmConfig Config() const;
  std::vector<std::unique_ptr<internal::Process>> StartServers() const;
  void Launch();
  [[noreturn]] void ThrowStartFailed(Error& trouble);
  // The API of a machine that is up; BadSpec names `what` otherwise.
  Api& Running(const char* what);
  // Makes a call, and adds to its error what is known of the machine.
  template <typename Call>
  auto Ask(const char* what, Call call) -> decltype(call(std::declval<Api&>()));
  void AwaitEvent(size_t from, const std::string& name, const std::string& detail, const std::string& what);
  void RequireNewId(const std::string& id) const;

  // On the I/O thread.
  void OnEvent(const VmmEvent& event);
  void OnExit(const VmmExit& exit);

  const Program program_;
  std::vector<internal::PreparedDisk> disks_;
  std::set<std::string> added_;  // of this run: what can be removed
  internal::UniqueFd agent_listener_;
  std::string ending_;  // on the I/O thread: the reason for which this run's end is expected; empty: it is not
  bool reset_ = false;  // on the I/O thread: the next restart is ours
  std::map<std::string, size_t> event_counts_;  // on the I/O thread: this run's
  std::unique_ptr<VmmProcess> process_;         // last: its end tells the members above
};

}  // namespace mayfly::ch
