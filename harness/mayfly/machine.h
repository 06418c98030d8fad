// One virtual machine of a driver.
//
// A Machine is the contract between mayfly and a backend: a lifecycle that every backend has, and optional operations
// that throw `Unsupported` where a driver does not override them. Tests hold a `Vm`, which adds the guest (agent,
// files, waits); they reach the machine under it for what the hardware does:
//
//   vm.machine().ResizeCpus(2);
//   vm.machine().Pause();
//
// Lifecycle and states:
//
//   Create → Stopped → Boot → Starting → Running → Ready → (Stop | Kill | guest powers off) → Stopped → Boot …
//                                  └──────────┴────────┴──→ Failed (the VMM died, or the guest panicked), with a reason
//
// A stopped machine keeps its disks, so Kill and Boot again is a power cut. The destructor deletes everything.
//
// Threads: operations of one machine are called by one thread at a time; state(), timeline() and the waits are safe
// from any thread. Times are real; a Duration that an operation takes is its whole allowance.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/deadline.h>
#include <mayfly/events.h>
#include <mayfly/internal/process.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace mayfly {

enum class MachineState { kStopped, kStarting, kRunning, kReady, kFailed };
std::string_view ToString(MachineState state);

struct MachineStatus {
  MachineState state = MachineState::kStopped;
  std::string reason{};  // one line: "created", "the guest powered off", "QEMU was killed by SIGSEGV"
  bool paused = false;
  friend bool operator==(const MachineStatus&, const MachineStatus&) = default;
};

// What the running machine is made of, for messages, records and evidence.
struct MachineInfo {
  std::string driver{};                     // "qemu"
  std::string vmm{};                        // "QEMU 7.2.19"
  std::string machine{};                    // "microvm", "q35"
  std::string accelerator{};                // "kvm", "tcg"
  std::string accelerator_reason{};         // why, where it was chosen automatically
  std::vector<std::string> command_line{};  // of the VMM process, which a person can run again
  pid_t pid = -1;
};

// A machine on its way to another process: its VMM goes on running. Descriptors are the driver's own; Driver::Adopt of
// the same driver takes them in the same order.
struct ReleasedMachine {
  std::string name{};    // what it is called from now on; empty: as before
  std::string record{};  // JSON
  std::vector<internal::UniqueFd> descriptors{};
  Sandbox sandbox;
  std::unique_ptr<internal::Process> vmm{};  // goes before its sandbox
};

// The host's end of a NIC that is a TAP device.
struct TapEnd {
  std::string device{};
  std::vector<std::string> enter{};  // words that begin a command in its network namespace; none: it is this process's
};

class Machine {
 public:
  Machine(std::string driver, MachineSpec spec, Sandbox sandbox);
  virtual ~Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const std::string& name() const { return spec_.name; }
  const MachineSpec& spec() const { return spec_; }
  const std::string& driver() const { return driver_; }
  Sandbox& sandbox() { return sandbox_; }
  Timeline& timeline() { return timeline_; }
  virtual MachineInfo Info() const = 0;

  // The console log: all that the guest wrote to its first serial port, all boots one after another.
  std::filesystem::path console_path() const { return sandbox_.Path("console.log"); }
  // What the guest played, where its sound device records that (RIFF WAVE); complete once the VMM has ended.
  std::filesystem::path audio_path() const { return sandbox_.Path("audio.wav"); }
  std::filesystem::path vmm_log_path() const { return sandbox_.Path("vmm.log"); }

  // --- State ------------------------------------------------------------------------------------------------------
  MachineStatus status() const;
  // Blocks until `wanted` returns true for the status; throws Timeout (naming `what` is awaited) when `deadline`
  // passes.
  MachineStatus WaitForStatus(const std::function<bool(const MachineStatus&)>& wanted, std::string_view what,
                              Deadline deadline) const;
  // Called by whoever saw the guest answer (agent hello, ready line). For another reason than before: it has restarted.
  void MarkReady(const std::string& reason);

  // --- Lifecycle --------------------------------------------------------------------------------------------------
  // Starts the VMM and the guest's CPUs and returns in state Running. Throws VmmDied with the VMM's own last words,
  // HostLacks, BadSpec.
  virtual void Boot() = 0;
  // Asks the guest to power off (ACPI power button) and waits `grace` for it; then kills. True when the guest obeyed.
  virtual bool Stop(Duration grace) = 0;
  // Ends the VMM at once, as a power cut does: nothing is flushed. Returns when the process is gone.
  virtual void Kill() = 0;
  // Resets the machine as its reset button does; the VMM process stays. State Running afterwards.
  virtual void Reset() = 0;

  // The agent's channel, anew for each boot: a connected stream socket (virtio-serial), or one on which the guest's
  // agent is awaited (vsock). It ends when the machine is down. Nothing when the spec has no agent. Called once for
  // each boot, after Boot.
  virtual internal::UniqueFd ConnectAgent() = 0;

  // --- Optional operations: each throws Unsupported unless the driver has it ---------------------------------------
  virtual void Pause();  // vCPUs stop, and time in the guest with them
  virtual void Resume();
  virtual void PowerButton();               // sends the button and returns
  virtual void ResizeCpus(uint32_t cpus);   // 1 to max_cpus, else BadSpec
  virtual void ResizeMemory(Bytes memory);  // memory to max_memory, else BadSpec
  // Asks the guest for it and returns; the guest gives memory back when it can. A zone's size to its max_size, else
  // BadSpec.
  virtual void ResizeZone(const std::string& id, Bytes size);
  virtual void SetBalloon(Bytes size);
  virtual void AddDisk(const Disk& disk);
  virtual void ResizeDisk(const std::string& id, Bytes size);
  virtual void SetRateLimit(const std::string& disk, const RateLimit& limit);
  virtual void AddNic(const Nic& nic);
  // The NIC of that id is plugged into what `nic` says by kind and source; all else about it stays. The guest sees its
  // carrier go and come.
  virtual void AttachNic(const Nic& nic);
  virtual TapEnd HostEndOf(const std::string& nic) const;  // of a NIC of kind kTap, while the machine runs
  virtual void AddShare(const Share& share);               // its tag is its id for RemoveDevice
  virtual void AddPmem(const Pmem& pmem);
  virtual void AddVsock(const Vsock& vsock);
  virtual void AddPassthrough(const Passthrough& device);
  virtual void RemoveDevice(const std::string& id);  // returns once the guest has let go of it
  // A stream to this port of the guest. Throws GuestFailed when nobody listens there.
  virtual internal::UniqueFd ConnectVsock(uint32_t port);
  // A listening socket for streams of the guest to this port of its host; where the host's kernel serves vsock, it is
  // for all guests of the host, and HostLacks tells of a port that is taken.
  virtual internal::UniqueFd ListenVsock(uint32_t port);
  // Saves the running machine, with its memory and private disks, to a directory that does not exist yet (snapshot.h);
  // it goes on afterwards. Throws HostLacks (no space), Unsupported with the name of what cannot be saved.
  virtual void Snapshot(const std::filesystem::path& directory);
  // Instead of Boot: goes on where a snapshot was made; state Running afterwards. The machine was created with
  // SpecOfCopy. Throws BadSpec for a snapshot of another backend, VMM version or accelerator, VmmDied for a damaged
  // one.
  virtual void Restore(const std::filesystem::path& directory);
  // What of that can be done before it is needed: starts the VMM, which waits for the state. State Starting until the
  // Restore of the same directory, which then takes less. Where a backend has no such thing it does nothing.
  virtual void PrepareRestore(const std::filesystem::path& directory);
  // From the next Boot or Restore on the guest's memory lies in files of this directory, which must be on the file
  // system of the snapshots: Snapshot moves them there, and all copies share what they do not change. Such a machine
  // ends with its first snapshot.
  virtual void KeepMemoryIn(const std::filesystem::path& directory);
  // Hands the running machine over: this object is of no more use. The agent's channel was taken by ConnectAgent and
  // goes separately.
  virtual ReleasedMachine Release();
  virtual void SendMigration(const std::string& url);  // unix:PATH or tcp:HOST:PORT
  virtual void ReceiveMigration(const std::string& url);
  virtual std::map<std::string, std::map<std::string, uint64_t>> Counters();  // device → counter → value
  virtual void InjectNmi();
  virtual void CoreDump(const std::filesystem::path& file);
  virtual void Screenshot(const std::filesystem::path& png);

 protected:
  // Changes the status and adds the event; wakes the waits. Thread-safe.
  void SetStatus(MachineStatus status);
  void SetState(MachineState state, std::string reason);
  // The refusal for an operation that this driver lacks; drivers override it to give their reason.
  virtual std::string WhyUnsupported(Capability capability) const;
  [[noreturn]] void ThrowUnsupported(Capability capability) const;

  MachineSpec spec_;
  Sandbox sandbox_;
  Timeline timeline_;

 private:
  const std::string driver_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  MachineStatus status_{MachineState::kStopped, "created"};
};

}  // namespace mayfly
