// A client of Cloud Hypervisor's REST API (v50 to v54), over its unix socket.
//
// One method for each endpoint, with typed requests and answers (config.h). Usable on its own, for any process that
// serves the API:
//
//   ch::Api api({.socket = "/run/ch.sock", .pidfd = process.pidfd()});
//   api.Create({.payload = ch::PayloadConfig{.kernel = "/boot/vmlinuz", .cmdline = "console=ttyS0"}}, deadline);
//   api.Boot(deadline);
//   if (api.Info(deadline).state == ch::VmState::kRunning) …
//
// Every call has a deadline. What it may throw:
//
// | class | when |
// | --- | --- |
// | ApiError | Cloud Hypervisor refused, with its chain of reasons |
// | Timeout | no answer in time. The request may still be carried out: one thread serves the API, and waits for the VMM
// | | VmmDied | the process ended (seen by `pidfd`, at once, however long the call), or closed its API | | BadAnswer |
// what came is no answer, or longer than max_answer | | BadSpec | the request is longer than max_request, or has text
// that is not UTF-8; nothing was sent | | HostLacks | there is no such socket |
//
// Two refusals are asked again, until the deadline, as the server means them: 429 of vm.resize while a removed vCPU has
// not left yet, and 503, by which it turns an eleventh connection away. No other request is ever sent twice.
//
// Thread-safe. The connection is kept between calls; calls at the same time have one each, but Cloud Hypervisor carries
// them out one after another.
#pragma once

#include <mayfly/deadline.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>

#include "drivers/ch/config.h"

namespace mayfly::ch {

class Connection;

class Api {
 public:
  struct Options {
    std::filesystem::path socket{};
    int pidfd = -1;               // of the VMM, if known; not owned
    size_t max_request = 51'200;  // what v53 accepts as body; 4 MiB from v54 on
    size_t max_answer = size_t{16} << 20;
  };

  explicit Api(Options options);
  ~Api();

  // --- The VMM ----------------------------------------------------------------------------------------------------
  Ping PingVmm(Deadline deadline);
  void ShutdownVmm(Deadline deadline);  // ends the VM and then the process, with exit code 0

  // --- Life of the VM ---------------------------------------------------------------------------------------------
  // Checks almost nothing: a wrong config is refused by Boot. After a failure call Delete before the next Create.
  void Create(const VmConfig& config, Deadline deadline);
  void Delete(Deadline deadline);  // ends a running VM first
  void Boot(Deadline deadline);
  void Shutdown(Deadline deadline);  // at once, as a power cut; afterwards the state is kCreated
  void Reboot(Deadline deadline);    // at once, as a reset
  void PowerButton(Deadline deadline);
  void Pause(Deadline deadline);
  void Resume(Deadline deadline);
  void Nmi(Deadline deadline);
  VmInfo Info(Deadline deadline);
  ch::Counters ReadCounters(Deadline deadline);

  // --- Changes ----------------------------------------------------------------------------------------------------
  void ResizeVm(const Resize& resize, Deadline deadline);
  void ResizeZone(const std::string& id, uint64_t bytes, Deadline deadline);
  void ResizeDisk(const std::string& id, uint64_t bytes, Deadline deadline);

  // Where the device is now; nothing when the VM is not booted yet and only its config has changed.
  std::optional<PciDevice> AddDisk(const DiskConfig& disk, Deadline deadline);
  // `descriptors`: TAP queues that the VMM takes a copy of; they stay the caller's.
  std::optional<PciDevice> AddNet(const NetConfig& net, Deadline deadline, std::span<const int> descriptors = {});
  std::optional<PciDevice> AddFs(const FsConfig& fs, Deadline deadline);
  std::optional<PciDevice> AddGenericVhostUser(const GenericVhostUserConfig& device, Deadline deadline);
  std::optional<PciDevice> AddPmem(const PmemConfig& pmem, Deadline deadline);
  std::optional<PciDevice> AddVsock(const VsockConfig& vsock, Deadline deadline);
  std::optional<PciDevice> AddVdpa(const VdpaConfig& vdpa, Deadline deadline);
  // `descriptor`: an open VFIO device, instead of a path.
  std::optional<PciDevice> AddDevice(const DeviceConfig& device, Deadline deadline, int descriptor = -1);
  std::optional<PciDevice> AddUserDevice(const UserDeviceConfig& device, Deadline deadline);
  // Asks the guest to let go of it; the event device-removed tells when it has.
  void RemoveDevice(const std::string& id, Deadline deadline);

  // --- State ------------------------------------------------------------------------------------------------------
  // Of a paused VM, into a directory that exists and is empty. Complete when this returns; the event comes earlier.
  void Snapshot(const std::filesystem::path& directory, Deadline deadline);
  // `descriptors`: for the NICs that restore.net_fds lists, in its order.
  void Restore(const RestoreConfig& restore, Deadline deadline, std::span<const int> descriptors = {});
  void CoreDump(const std::filesystem::path& file, Deadline deadline);     // 404: built without guest_debug
  void StartMigration(const SendMigration& migration, Deadline deadline);  // events tell how it ends (v53 on)
  // Returns when the VM has come. Until then the VMM hears nothing else, SIGTERM included.
  void AcceptMigration(const ReceiveMigration& migration, Deadline deadline);

 private:
  // The body of the answer; empty for 204.
  std::string Call(const char* method, const std::string& endpoint, const std::string& body, Deadline deadline,
                   std::span<const int> descriptors = {});
  std::string Get(const std::string& endpoint, Deadline deadline) { return Call("GET", endpoint, "", deadline); }
  void Put(const std::string& endpoint, Deadline deadline) { Call("PUT", endpoint, "", deadline); }
  std::string Put(const std::string& endpoint, const nlohmann::json& body, Deadline deadline,
                  std::span<const int> descriptors = {});
  std::optional<PciDevice> Add(const std::string& endpoint, const nlohmann::json& body, Deadline deadline,
                               std::span<const int> descriptors = {});

  const Options options_;
  std::mutex mutex_;
  std::unique_ptr<Connection> idle_;  // kept for the next call
};

}  // namespace mayfly::ch
