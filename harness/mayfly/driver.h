// A backend: what makes machines.
//
// A driver lives in a folder of its own below drivers/ and is linked in when MAYFLY_DRIVERS names it; nothing else in
// the code does. To add one, implement Driver and Machine and define `std::unique_ptr<Driver> MakeDriver_<folder>()` in
// namespace mayfly::internal.
//
//   Driver& driver = FindDriver("qemu");
//   for (const CapabilityReport& report : driver.Probe().capabilities) …
//   std::unique_ptr<Machine> machine = driver.Create(spec, Sandbox::Create(spec.name));
//
// Drivers are made once, on first use, and live as long as the process. Thread-safe.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/machine.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {

// Whether this host offers a capability with a driver; where not, why, and what changes it.
struct CapabilityReport {
  Capability capability{};
  bool available = false;
  std::string reason{};  // "QEMU 7.2.19", "no virtiofsd on PATH"
  std::string fix{};     // a command or a sentence; empty when nothing helps
};

// One fact that a probe found, for `mayfly doctor`. A check that has the name of a need of the matrix ("kvm") tells
// whether this host has it.
struct HostCheck {
  enum class Result { kPass, kWarn, kFail };
  std::string name{};  // "kvm"
  Result result = Result::kPass;
  std::string detail{};  // "/dev/kvm opens, but a canary guest did not boot in 2.0 s"
  std::string fix{};     // empty: nothing to do
};

struct ProbeReport {
  bool usable = false;    // a plain VM can be booted
  std::string version{};  // "QEMU 7.2.19 (/usr/bin/qemu-system-x86_64)"
  // Another VMM stands in for the backend's: what works here shows nothing of the real one.
  bool simulated = false;
  std::vector<HostCheck> checks{};
  std::vector<CapabilityReport> capabilities{};  // one for each of AllCapabilities(), in that order
};

class Driver {
 public:
  virtual ~Driver() = default;

  virtual std::string_view Name() const = 0;

  // Looks at the host. Takes milliseconds, except where a canary guest must be booted; that verdict is cached.
  virtual ProbeReport Probe() = 0;

  // Makes a machine in state Stopped from a spec that `Validate` accepts and whose image is resolved. Throws
  // Unsupported for what this backend never has, HostLacks for what this host has not, BadSpec for values that it
  // cannot take.
  virtual std::unique_ptr<Machine> Create(const MachineSpec& spec, Sandbox sandbox) = 0;

  // Takes over a running machine that another process has released; `agent` is the agent's channel, which ConnectAgent
  // returns. Throws Unsupported unless the driver has Machine::Release, BadSpec for what is no such machine.
  virtual std::unique_ptr<Machine> Adopt(ReleasedMachine machine, internal::UniqueFd agent);

  // Why machines of this spec cannot be saved and copied; empty when they can.
  virtual std::string WhyNoCopies(const MachineSpec& spec) const;
  // What of the VMM and the host a saved machine depends on: it is restored where this is the same.
  virtual std::string CopyIdentity(const MachineSpec& spec) const;
};

// All drivers that are linked in, in the order of MAYFLY_DRIVERS.
const std::vector<Driver*>& AllDrivers();

// The driver of that name; empty: $MAYFLY_DRIVER, else the first that is usable and not simulated. Throws BadSpec
// (with the known names) for an unknown one, HostLacks (with each driver's reason) when none is usable.
Driver& FindDriver(std::string_view name);

}  // namespace mayfly
