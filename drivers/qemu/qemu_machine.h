// A machine run by QEMU.
//
// Disks are made in the constructor and stay until the destructor; each Boot starts a QEMU process of its own. States
// follow QEMU's events and the end of its process, both seen on the I/O thread:
//
// | what happens | state | reason |
// | --- | --- | --- |
// | the guest powers off (SHUTDOWN, then QEMU ends) | Stopped | the guest powered off |
// | Kill | Stopped | killed |
// | the guest restarts, or Reset (RESET) | Running | the guest restarted |
// | the guest panics and has pvpanic (GUEST_PANICKED) | Failed | the guest panicked |
// | the host has no space left for a disk (BLOCK_IO_ERROR) | Failed | names the disk |
// | QEMU ends otherwise | Failed | how it ended, and its last words |
//
// Each QMP event is in the timeline under QEMU's name for it.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/tap.h>
#include <mayfly/internal/vsock.h>
#include <mayfly/machine.h>
#include <mayfly/snapshot.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "drivers/qemu/accelerator.h"
#include "drivers/qemu/command_line.h"
#include "drivers/qemu/device_options.h"
#include "drivers/qemu/machine_type.h"
#include "drivers/qemu/qemu_process.h"
#include "drivers/qemu/qemu_program.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {

class QemuMachine final : public Machine {
 public:
  // `spec` has a kernel. Makes the disks: throws BadSpec, HostLacks.
  QemuMachine(QemuProgram qemu, MachineSpec spec, Sandbox sandbox);
  // Takes over what another one has released. Throws BadSpec.
  QemuMachine(ReleasedMachine machine, UniqueFd agent);
  ~QemuMachine() override;

  MachineInfo Info() const override;

  void Boot() override;
  bool Stop(Duration grace) override;
  void Kill() override;
  void Reset() override;
  UniqueFd ConnectAgent() override;

  void Pause() override;
  void Resume() override;
  void PowerButton() override;
  void ResizeCpus(uint32_t cpus) override;
  void ResizeMemory(Bytes memory) override;
  void AddDisk(const Disk& disk) override;
  void ResizeZone(const std::string& id, Bytes size) override;
  void AddNic(const Nic& nic) override;
  void AttachNic(const Nic& nic) override;
  TapEnd HostEndOf(const std::string& nic) const override;
  void AddShare(const Share& share) override;
  void AddVsock(const Vsock& vsock) override;
  void AddPassthrough(const Passthrough& device) override;
  UniqueFd ConnectVsock(uint32_t port) override;
  UniqueFd ListenVsock(uint32_t port) override;
  void RemoveDevice(const std::string& id) override;
  void SetBalloon(Bytes size) override;
  void ResizeDisk(const std::string& id, Bytes size) override;
  void SetRateLimit(const std::string& disk, const RateLimit& limit) override;
  std::map<std::string, std::map<std::string, uint64_t>> Counters() override;
  void InjectNmi() override;
  void CoreDump(const std::filesystem::path& file) override;
  void Screenshot(const std::filesystem::path& png) override;
  void SendMigration(const std::string& url) override;
  void ReceiveMigration(const std::string& url) override;
  void Snapshot(const std::filesystem::path& directory) override;
  void PrepareRestore(const std::filesystem::path& directory) override;
  void Restore(const std::filesystem::path& directory) override;
  void KeepMemoryIn(const std::filesystem::path& directory) override { memory_directory_ = directory; }
  ReleasedMachine Release() override;

 protected:
  std::string WhyUnsupported(Capability capability) const override;

 private:
  QemuMachine(const nlohmann::json& record, ReleasedMachine&& machine, UniqueFd agent);

  // What a run of QEMU begins with.
  struct Start {
    MemoryPlace memory{};
    UniqueFd state{};        // the file that it restores
    std::string incoming{};  // QEMU's address of the state that it goes on from; empty: it boots
    bool state_has_memory = false;
  };

  std::vector<std::string> CommandLine(bool for_people) const;
  std::vector<std::unique_ptr<Process>> StartServers() const;
  QemuProcess::Options ProcessOptions();
  void RequireDown(std::string_view what) const;
  void StartRestore(const std::filesystem::path& directory);
  void Launch(Start start, std::string_view doing);
  void AwaitStart(Deadline deadline);
  void AwaitIncoming(std::string_view from_what, Deadline deadline);
  void RequireMovable(const std::string& url) const;
  std::string ListeningAddress(const std::string& url);
  void SaveState(const std::filesystem::path& directory);
  void RequireSavable() const;
  void SetUpRunning(Deadline deadline);
  [[noreturn]] void ThrowStartFailed(const std::string& trouble);
  nlohmann::json Execute(const std::string& command, const nlohmann::json& arguments);

  void RequireHotplug(Capability capability) const;
  void RequireNewId(const std::string& id) const;
  void PlugIn(const std::string& id, nlohmann::json device, const std::vector<QmpCommand>& undo);
  void Undo(const std::vector<QmpCommand>& commands);
  void Unplug(const std::string& device, const std::string& what);
  void ForgetDisk(const std::string& id);
  void ForgetNic(const std::string& id);
  void ForgetShare(const std::string& tag);

  // NICs and what they are connected to.
  void ResetNics();
  Tap TapFor(const Nic& nic) const;
  void RequireAllowedNic(const Nic& nic) const;
  std::vector<nlohmann::json> NewWire(const Nic& nic, const NicPlace& place, Tap& tap);
  void RemoveWire(const Nic& nic, const NicPlace& place);
  void SetCarrier(const Nic& nic);
  void SwitchLink(const std::string& nic, bool up);

  const PreparedDisk& FindDisk(const std::string& id) const;
  std::string DiskOfDevice(const std::string& device) const;

  // On the I/O thread.
  bool OnEvent(const std::string& name, const nlohmann::json& data);  // false: the guest is lost
  void OnExit(const QemuExit& exit);

  const QemuProgram qemu_;
  const MachineChoice machine_;
  std::vector<std::string> made_up_macs_;  // NICs whose address nobody asked for
  std::vector<PreparedDisk> disks_;
  Firmware firmware_;
  std::filesystem::path memory_directory_;  // see KeepMemoryIn; empty: memory is anonymous
  Start start_;                             // of this run; its descriptor is gone
  std::filesystem::path awaited_;           // what PrepareRestore has started this run for
  AcceleratorChoice accelerator_;
  std::vector<std::string> slots_;                    // of this run: the device in each hotplug slot, or empty
  std::vector<std::string> plugged_;                  // of this run: the devices that were added to it
  std::vector<std::pair<std::string, Bytes>> dimms_;  // of this run: memory that was added
  std::map<std::string, NicPlace> places_;            // of this run, by NIC
  std::map<std::string, Tap> taps_;                   // of this run, by NIC; QEMU has their descriptors
  size_t next_wire_ = 0;
  std::map<std::string, size_t> share_numbers_;  // of this run, by tag
  size_t next_share_ = 0;
  GuestVsock vsock_;  // of this run

  std::string ending_;  // on the I/O thread: the reason for which this run's end is expected; empty: it is not
  std::map<std::string, size_t> event_counts_;  // on the I/O thread: this run's
  bool agent_taken_ = false;
  std::unique_ptr<QemuProcess> process_;  // last: its end tells the members above
};

}  // namespace mayfly::internal
