// A test's hold on a VM: a connection to the pool, the VM's sandbox and its processes there.
//
//   std::shared_ptr<Lease> lease = Lease::Open({.name = "kv", .memory = 512_MiB, .cpus = 2});
//   Sandbox sandbox = Sandbox::OwnedBy(lease, lease->directory());
//   std::unique_ptr<Process> vmm = sandbox.Start({.argv = {"qemu-system-x86_64", …}});
//
// It ends when the last owner lets go of it, and when this process dies, however that happens: then the pool kills what
// was started with it and removes the sandbox. Thread-safe.
#pragma once

#include <mayfly/agent.h>
#include <mayfly/bytes.h>
#include <mayfly/driver.h>
#include <mayfly/internal/pool_connection.h>
#include <mayfly/internal/process.h>
#include <mayfly/machine.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace mayfly::internal {

struct LeaseRequest {
  std::string name{};               // of the VM, for the sandbox's path and for messages
  Bytes memory{};                   // what the guest may use at most; admission waits until the host has it to spare
  std::optional<Bytes> overhead{};  // what its VMM takes besides; nothing: what the VMM of a booted guest takes
  double cpus = 1;                  // less than one for a guest that mostly waits
  bool copy = false;                // it goes on from another one: counts as a fork does
  // Told after a second of waiting, and then each minute, who is in the way: "waiting for 2 GiB: kv_test (4242) holds 3
  // VMs with 6 GiB". Without it, a line on standard error.
  std::function<void(const std::string& line)> on_wait{};
};

// For a whole VM of this spec.
LeaseRequest RequestFor(const MachineSpec& spec);

class Lease : public SandboxOwner, public std::enable_shared_from_this<Lease> {
 public:
  // Waits until the host has room for the VM, for ten minutes at most or as many seconds as MAYFLY_POOL_WAIT says.
  // Throws Timeout then, BadSpec when there can never be room, and what PoolConnection::Open and the pool throw.
  static std::shared_ptr<Lease> Open(const LeaseRequest& request);
  Lease(std::unique_ptr<PoolConnection> connection, const LeaseRequest& request);
  // Returns when all of it is gone.
  ~Lease() override;
  Lease(std::unique_ptr<PoolConnection> connection, std::filesystem::path directory)
      : connection_(std::move(connection)), directory_(std::move(directory)) {}

  // A running copy of the template in `directory`: its lease, and what Driver::Adopt of `driver` takes.
  struct Fork {
    std::string driver{};
    ReleasedMachine machine;
    UniqueFd agent{};
    std::optional<AgentSession> session{};
  };
  // Waits for room as Open does; `name` is what messages call it.
  static Fork OpenFork(const std::filesystem::path& directory, const std::string& name = "fork");
  // A VM that was booted ahead, where the pool has one; else it has begun to boot some for later leases. `spec` has its
  // image resolved and no name.
  static std::optional<Fork> OpenBooted(const Driver& driver, const MachineSpec& spec);

  const std::filesystem::path& directory() const { return directory_; }
  PoolConnection& connection() { return *connection_; }

  std::unique_ptr<Process> Start(ChildOptions options) override;
  void Keep() override;

 private:
  static Fork ForkOf(std::unique_ptr<PoolConnection> connection, Message reply);

  std::unique_ptr<PoolConnection> connection_;
  std::filesystem::path directory_;
};

}  // namespace mayfly::internal
