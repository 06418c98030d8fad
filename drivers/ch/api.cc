#include "drivers/ch/api.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "drivers/ch/api_error.h"
#include "drivers/ch/connection.h"

namespace mayfly::ch {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

// Refusals that mean "later". The request has had no effect.
struct RetryRule {
  unsigned status;
  std::string_view endpoint;  // empty: any
};
constexpr std::array kRetryRules = {
    RetryRule{429, "vm.resize"},  // the guest has not let go of a removed vCPU yet
    RetryRule{503, ""},           // all ten connections are taken
};

bool IsRetried(unsigned status, std::string_view endpoint) {
  return std::any_of(kRetryRules.begin(), kRetryRules.end(), [&](const RetryRule& rule) {
    return rule.status == status && (rule.endpoint.empty() || rule.endpoint == endpoint);
  });
}

constexpr unsigned kOk = 200;
constexpr unsigned kNoContent = 204;

std::string Request(const char* method, const std::string& endpoint, const std::string& body) {
  std::string request =
      fmt::format("{} /api/v1/{} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", method, endpoint);
  // Endpoints that take no body refuse every other length than none.
  if (body.empty()) return request + "\r\n";
  return request + fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.size()) + body;
}

std::string FileUrl(const std::filesystem::path& path) { return "file://" + std::filesystem::absolute(path).string(); }

}  // namespace

Api::Api(Options options) : options_(std::move(options)) {}
Api::~Api() = default;

std::string Api::Call(const char* method, const std::string& endpoint, const std::string& body, Deadline deadline,
                      std::span<const int> descriptors) {
  if (body.size() > options_.max_request) {
    throw BadSpec({.summary = fmt::format("the request '{}' has {} bytes; Cloud Hypervisor accepts {}", endpoint,
                                          body.size(), options_.max_request)});
  }
  const CallContext call{.endpoint = endpoint, .pidfd = options_.pidfd, .deadline = deadline};
  const std::string request = Request(method, endpoint, body);
  constexpr auto kLongestPause = milliseconds(500);
  auto pause = milliseconds(20);
  while (true) {
    std::unique_ptr<Connection> connection;
    {
      std::lock_guard lock(mutex_);
      connection = std::move(idle_);
    }
    if (!connection || !connection->Usable()) connection = std::make_unique<Connection>(options_.socket, call);
    Answer answer = connection->Exchange(request, descriptors, options_.max_answer, call);
    if (answer.keep_alive && answer.status != 503) {
      std::lock_guard lock(mutex_);
      if (!idle_) idle_ = std::move(connection);
    }
    if (answer.status == kOk || answer.status == kNoContent) return std::move(answer.body);
    ApiError refusal(endpoint, answer.status, ErrorChain(answer.body));
    if (!IsRetried(answer.status, endpoint)) throw refusal;
    if (deadline.Remaining() < pause) {
      refusal.AddNote("asked again until the deadline, with the same answer");
      throw refusal;
    }
    if (options_.pidfd < 0) {
      poll(nullptr, 0, static_cast<int>(pause.count()));
    } else if (AwaitEnd(options_.pidfd, Deadline::After(pause))) {
      throw VmmDied({.summary = fmt::format("Cloud Hypervisor ended while '{}' was to be asked again", endpoint)});
    }
    pause = std::min(pause * 2, kLongestPause);
  }
}

std::string Api::Put(const std::string& endpoint, const json& body, Deadline deadline,
                     std::span<const int> descriptors) {
  std::string text;
  try {
    text = body.dump();
  } catch (const json::type_error& error) {
    throw BadSpec({.summary = fmt::format("the request '{}' has text that is not UTF-8", endpoint),
                   .notes = {Excerpt(error.what())}});
  }
  return Call("PUT", endpoint, text, deadline, descriptors);
}

std::optional<PciDevice> Api::Add(const std::string& endpoint, const json& body, Deadline deadline,
                                  std::span<const int> descriptors) {
  std::string answer = Put(endpoint, body, deadline, descriptors);
  if (answer.empty()) return std::nullopt;
  return PciDeviceFromJson(answer);
}

Ping Api::PingVmm(Deadline deadline) { return PingFromJson(Get("vmm.ping", deadline)); }
void Api::ShutdownVmm(Deadline deadline) { Put("vmm.shutdown", deadline); }

void Api::Create(const VmConfig& config, Deadline deadline) { Put("vm.create", ToJson(config), deadline); }
void Api::Delete(Deadline deadline) { Put("vm.delete", deadline); }
void Api::Boot(Deadline deadline) { Put("vm.boot", deadline); }
void Api::Shutdown(Deadline deadline) { Put("vm.shutdown", deadline); }
void Api::Reboot(Deadline deadline) { Put("vm.reboot", deadline); }
void Api::PowerButton(Deadline deadline) { Put("vm.power-button", deadline); }
void Api::Pause(Deadline deadline) { Put("vm.pause", deadline); }
void Api::Resume(Deadline deadline) { Put("vm.resume", deadline); }
void Api::Nmi(Deadline deadline) { Put("vm.nmi", deadline); }
VmInfo Api::Info(Deadline deadline) { return VmInfoFromJson(Get("vm.info", deadline)); }
Counters Api::ReadCounters(Deadline deadline) { return CountersFromJson(Get("vm.counters", deadline)); }

void Api::ResizeVm(const Resize& resize, Deadline deadline) { Put("vm.resize", ToJson(resize), deadline); }
void Api::ResizeZone(const std::string& id, uint64_t bytes, Deadline deadline) {
  Put("vm.resize-zone", {{"id", id}, {"desired_ram", bytes}}, deadline);
}
void Api::ResizeDisk(const std::string& id, uint64_t bytes, Deadline deadline) {
  Put("vm.resize-disk", {{"id", id}, {"desired_size", bytes}}, deadline);
}

std::optional<PciDevice> Api::AddDisk(const DiskConfig& disk, Deadline deadline) {
  return Add("vm.add-disk", ToJson(disk), deadline);
}
std::optional<PciDevice> Api::AddNet(const NetConfig& net, Deadline deadline, std::span<const int> descriptors) {
  return Add("vm.add-net", ToJson(net), deadline, descriptors);
}
std::optional<PciDevice> Api::AddFs(const FsConfig& fs, Deadline deadline) {
  return Add("vm.add-fs", ToJson(fs), deadline);
}
std::optional<PciDevice> Api::AddGenericVhostUser(const GenericVhostUserConfig& device, Deadline deadline) {
  return Add("vm.add-generic-vhost-user", ToJson(device), deadline);
}
std::optional<PciDevice> Api::AddPmem(const PmemConfig& pmem, Deadline deadline) {
  return Add("vm.add-pmem", ToJson(pmem), deadline);
}
std::optional<PciDevice> Api::AddVsock(const VsockConfig& vsock, Deadline deadline) {
  return Add("vm.add-vsock", ToJson(vsock), deadline);
}
std::optional<PciDevice> Api::AddVdpa(const VdpaConfig& vdpa, Deadline deadline) {
  return Add("vm.add-vdpa", ToJson(vdpa), deadline);
}
std::optional<PciDevice> Api::AddDevice(const DeviceConfig& device, Deadline deadline, int descriptor) {
  std::span<const int> descriptors(&descriptor, descriptor < 0 ? 0 : 1);
  return Add("vm.add-device", ToJson(device), deadline, descriptors);
}
std::optional<PciDevice> Api::AddUserDevice(const UserDeviceConfig& device, Deadline deadline) {
  return Add("vm.add-user-device", ToJson(device), deadline);
}
void Api::RemoveDevice(const std::string& id, Deadline deadline) { Put("vm.remove-device", {{"id", id}}, deadline); }

void Api::Snapshot(const std::filesystem::path& directory, Deadline deadline) {
  Put("vm.snapshot", {{"destination_url", FileUrl(directory)}}, deadline);
}
void Api::Restore(const RestoreConfig& restore, Deadline deadline, std::span<const int> descriptors) {
  Put("vm.restore", ToJson(restore), deadline, descriptors);
}
void Api::CoreDump(const std::filesystem::path& file, Deadline deadline) {
  Put("vm.coredump", {{"destination_url", FileUrl(file)}}, deadline);
}
void Api::StartMigration(const SendMigration& migration, Deadline deadline) {
  Put("vm.send-migration", ToJson(migration), deadline);
}
void Api::AcceptMigration(const ReceiveMigration& migration, Deadline deadline) {
  Put("vm.receive-migration", ToJson(migration), deadline);
}

}  // namespace mayfly::ch
