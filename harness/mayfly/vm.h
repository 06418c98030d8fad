// A virtual machine as a test holds it: the machine and the guest in it.
//
//   Vm vm = Vm::Boot({.cpus = 2, .memory = 512_MiB});          // returns when the guest is ready
//   vm.Upload("build/kv", "/usr/bin/kv");
//   EXPECT_THAT(vm.Exec("kv --version"), Prints("kv 1.0\n"));
//   vm.Kill();                                                 // a power cut
//   vm.Boot();                                                 // the same disks again
//
// In GoogleTest derive from VmFixture (<mayfly/fixture.h>), which boots one in SetUp and keeps the artefacts of a
// failed test. A Vm owns its machine: when it goes, the VMM and its files go.
//
// Every function that waits takes a duration, blocks on an event and not on a sleep, and throws an error that says what
// it waited for, how long, and the last lines of the console.
//
// Threads: a Vm may be used by several threads at once for guest operations (Exec, files, ports, waits); lifecycle
// calls (Boot, Stop, Kill, Reboot, move, destructor) by one thread while no other uses it.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/exec.h>
#include <mayfly/image.h>
#include <mayfly/machine.h>
#include <mayfly/spec.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

// A file or directory in the guest.
struct GuestFile {
  enum class Type { kFile, kDirectory, kSymlink, kOther };
  Type type = Type::kFile;
  uint64_t size = 0;
  uint32_t mode = 0;  // permission bits, such as 0644
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// A forwarded port. Forwarding ends, with its connections, when this goes. Movable.
class PortForward {
 public:
  class Impl;
  explicit PortForward(std::unique_ptr<Impl> impl);
  PortForward(PortForward&&) noexcept;
  PortForward& operator=(PortForward&&) noexcept;
  ~PortForward();
  uint16_t port() const;  // where to connect: on the host's loopback, or on the guest's

 private:
  std::unique_ptr<Impl> impl_;
};

class TemplateBuilder;
class Vm;

// What the guests of a template are prepared with, once for all its forks.
struct Preparation {
  std::string identity{};             // of `run`: another one prepares another template
  std::function<bool(Vm& vm)> run{};  // false: it has left the guest as it was; none: nothing is prepared
};

class Vm {
 public:
  class Impl;

  // Creates and boots. Throws what Create and Boot throw.
  static Vm Boot(MachineSpec spec);
  // Creates only: image resolved (and built when it is missing, which `progress` is told), driver chosen, sandbox made,
  // state Stopped. Throws BadSpec, Unsupported, HostLacks.
  static Vm Create(MachineSpec spec, const Progress& progress = {});

  // A fork: a running copy of a template of this spec, ready in milliseconds where booting takes seconds. The template
  // is booted and prepared by whoever comes first, kept in the cache, and built again when image, VMM,
  // `prepare.identity` or a file that was uploaded has changed; the others wait for it. A fork has its own clock,
  // random numbers, host name, machine id and MAC addresses, and shares memory and disks with its siblings only where
  // neither has written. Commands that `prepare.run` has started and not waited for are killed in forks, unless they
  // have become daemons.
  //
  // Where the backend cannot copy machines of this spec (Driver::WhyNoCopies, or a device that turns out not to be
  // saved), the pool boots some ahead for later calls, and each is prepared anew; where that cannot be either (no
  // agent, a disk that is written to in its place) or MAYFLY_FORK is "off", it boots this VM. The timeline tells why.
  // Throws what Boot and `prepare.run` throw.
  static Vm Fork(MachineSpec spec, const Preparation& prepare = {}, const Progress& progress = {});

  Vm(Vm&&) noexcept;
  Vm& operator=(Vm&&) noexcept;
  ~Vm();

  const std::string& name() const;
  Machine& machine();
  const Machine& machine() const;
  MachineStatus status() const;

  // --- Lifecycle --------------------------------------------------------------------------------------------------
  // Boots and waits until the guest is ready: its agent has answered, or VMRS_READY is on its console. Throws
  // BootFailed (with the console's last lines) as soon as the guest panics or powers off, Timeout after
  // spec.boot_timeout, VmmDied.
  void Boot();
  // Powers the guest off in an orderly way: by its agent, else by the power button; kills it after `grace`. True: it
  // obeyed.
  bool Stop(Duration grace = std::chrono::seconds(30));
  // A power cut.
  void Kill();
  // Asks the guest to restart and waits until it is ready again.
  void Reboot(Duration timeout = std::chrono::seconds(0));
  // Presses the reset button and waits until the guest is ready again.
  void Reset();

  // --- Copies -----------------------------------------------------------------------------------------------------
  // Saves the VM as it is now, memory and disks, under a name that it does not have yet; it goes on. Kept until the Vm
  // goes.
  void Snapshot(std::string_view name);
  // Goes back to what was saved: as if nothing had happened since, but for the clock and random numbers. machine() is
  // another object afterwards. Throws BadSpec for an unknown name (with those that there are).
  void Revert(std::string_view name);
  // A second VM that goes on from here like this one, with a name, clock, random numbers and addresses of its own.
  Vm Clone();

  // Saves the VM as Snapshot does, into a directory that does not exist yet and that holds all of it: memory, whole
  // disks, kernel. It may be moved to another host and lives until somebody removes it; `mayfly resume DIR` gives a
  // shell in a copy. Tests need not call it: with MAYFLY_FREEZE=on-failure each VM of a failed test is frozen. Throws
  // what Machine::Snapshot throws, HostLacks without space or qemu-img.
  void Freeze(const std::filesystem::path& directory);
  // A VM that goes on where one was frozen, with its names and addresses, and the clock of now. Nothing in the
  // directory changes, but it must stay as long as the Vm lives. Throws BadSpec for a directory that is not complete,
  // is damaged, or was saved by another backend, VMM version or accelerator.
  static Vm Resume(const std::filesystem::path& directory);

  // --- Commands ---------------------------------------------------------------------------------------------------
  // Runs a command to its end. Throws GuestFailed when it cannot be started (no such program or user) or the guest goes
  // down meanwhile; how it ended is in the result, a timeout too.
  ExecResult Exec(const Command& command, const ExecOptions& options = {});
  GuestProcess Start(const Command& command, const StartOptions& options = {});

  // --- Files ------------------------------------------------------------------------------------------------------
  // Copies a file or a directory tree of the host into the guest, with modes; checked by checksum; a file appears under
  // its name only when it is complete. When `to` ends in '/', the copy keeps its name in that directory. Missing parent
  // directories are made. Throws GuestFailed (no space, read-only, …) with the guest's path; BadSpec when `from` is
  // missing.
  void Upload(const std::filesystem::path& from, std::string_view to);
  // The same the other way.
  void Download(std::string_view from, const std::filesystem::path& to);
  std::string ReadFile(std::string_view path, Bytes limit = Bytes(64 << 20));  // throws GuestFailed beyond the limit
  void WriteFile(std::string_view path, std::string_view content, uint32_t mode = 0644);
  std::optional<GuestFile> Stat(std::string_view path);  // nothing when it does not exist

  // --- Ports ------------------------------------------------------------------------------------------------------
  // A port on the host's loopback whose connections reach `guest_port` of the guest's loopback; no NIC needed.
  PortForward ForwardToGuest(uint16_t guest_port);
  // A port on the guest's loopback (0: a free one) whose connections reach `host_port` of the host's loopback.
  PortForward ForwardToHost(uint16_t host_port, uint16_t guest_port = 0);

  // --- Waits ------------------------------------------------------------------------------------------------------
  void WaitForPort(uint16_t port, Duration timeout);             // something listens on it in the guest
  void WaitForFile(std::string_view path, Duration timeout);     // it exists
  void WaitForConsole(std::string_view text, Duration timeout);  // this boot's console output contains it
  void WaitForUnit(std::string_view unit, Duration timeout);     // the systemd unit is active; failed throws at once
  ExecResult WaitUntilSucceeds(const Command& command, Duration timeout);  // tried again until it exits with 0

  // --- Guest ------------------------------------------------------------------------------------------------------
  std::string console() const;  // all boots' output, at most the last 16 MiB
  void Sync();                  // the guest's file systems are on its disks
  // Sets the guest's clock to the host's and gives it fresh entropy.
  void FixClockAndEntropy();

  // Writes console.log, vmm.log, spec.json, timeline.json, agent.log and reproduce.sh into a directory, which it makes.
  void WriteArtifacts(const std::filesystem::path& directory);

 private:
  friend class TemplateBuilder;
  explicit Vm(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mayfly
