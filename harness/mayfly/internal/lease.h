// A test's hold on a VM: a connection to the pool, the VM's sandbox and its processes there.
//
//   std::shared_ptr<Lease> lease = Lease::Open({.name = "kv", .memory = 512_MiB, .cpus = 2});
//   Sandbox sandbox = Sandbox::OwnedBy(lease, lease->directory());
//   std::unique_ptr<Process> vmm = sandbox.Start({.argv = {"qemu-system-x86_64", …}});
//
// It ends when the last owner lets go of it, and when this process dies, however that happens: then the pool kills what
// was started with it and removes the sandbox. Thread-safe.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/internal/pool_connection.h>
#include <mayfly/internal/process.h>
#include <mayfly/machine.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

namespace mayfly::internal {

struct LeaseRequest {
  std::string name{};  // of the VM, for the sandbox's path and for messages
  Bytes memory{};      // what the VM may use at most; admission waits until the host has it to spare
  uint32_t cpus = 1;
};

class Lease : public SandboxOwner, public std::enable_shared_from_this<Lease> {
 public:
  // Waits for admission. Throws what PoolConnection::Open and the pool throw.
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
  };
  static Fork OpenFork(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  PoolConnection& connection() { return *connection_; }

  std::unique_ptr<Process> Start(ChildOptions options) override;
  void Keep() override;

 private:
  std::unique_ptr<PoolConnection> connection_;
  std::filesystem::path directory_;
};

}  // namespace mayfly::internal
