// Moving a running machine to another QEMU process.
//
// The receiver waits in -incoming defer and is told its address over QMP, so that the event "listening" is true when it
// is told. Memory is copied while the guest runs, and the guest goes on there.
#include "drivers/qemu/qemu_migration.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>

#include <chrono>
#include <string>

#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/qemu_machine.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {

using nlohmann::json;
using std::chrono::seconds;

Deadline SaveDeadline() { return Deadline::After(Scaled(seconds(300))); }

json MigrationCapabilities(bool ignore_shared) {
  return {
      {"capabilities",
       {{{"capability", "events"}, {"state", true}}, {{"capability", "x-ignore-shared"}, {"state", ignore_shared}}}}};
}

json MigrationParameters() { return {{"max-bandwidth", uint64_t{1} << 40}}; }

bool IsEndOfMigration(const Event& event) {
  if (event.source == "mayfly" && event.name == "state") {
    return event.detail.starts_with("Stopped") || event.detail.starts_with("Failed");
  }
  return event.source == "qemu" && event.name == "MIGRATION" &&
         (IsGoodEnd(event) || event.detail.find("failed") != std::string::npos);
}

bool IsGoodEnd(const Event& event) { return event.detail.find("completed") != std::string::npos; }

void QemuMachine::RequireMovable(const std::string& url) const {
  if (!url.starts_with("unix:") && !url.starts_with("tcp:")) {
    throw BadSpec({.summary = fmt::format(
                       "'{}': \"{}\" is no address for a migration; allowed: unix:PATH, tcp:HOST:PORT", name(), url)});
  }
  std::string why;
  for (const PreparedDisk& disk : disks_) {
    if (!disk.readonly) why = fmt::format("disk '{}' stays in this machine's directory", disk.disk.id);
  }
  if (!spec_.shares.empty()) why = "shares are served by a process that does not move";
  if (spec_.tpm) why = "the TPM is served by a process that does not move";
  if (!why.empty()) throw Unsupported(Capability::kStateMigration, driver(), why);
}

// Where QEMU listens: with tcp:HOST:0 it has chosen the port.
std::string QemuMachine::ListeningAddress(const std::string& url) {
  if (!url.starts_with("tcp:")) return url;
  for (const json& address : Execute("query-migrate", nullptr).value("socket-address", json::array())) {
    return fmt::format("tcp:{}:{}", address.value("host", ""), address.value("port", ""));
  }
  return url;
}

void QemuMachine::ReceiveMigration(const std::string& url) {
  RequireMovable(url);
  RequireDown("receive a migration");
  Launch({.incoming = url, .state_has_memory = true}, "receiving");
  AwaitIncoming("another process", SaveDeadline());
}

void QemuMachine::SendMigration(const std::string& url) {
  RequireMovable(url);
  Deadline deadline = SaveDeadline();
  Execute("migrate-set-capabilities", MigrationCapabilities(false));
  Execute("migrate-set-parameters", MigrationParameters());
  size_t from = timeline_.size();
  try {
    Execute("migrate", {{"uri", url}});
  } catch (const QmpError& error) {
    throw HostLacks({.summary = fmt::format("'{}' (qemu) cannot be moved to {}: {}", name(), url, error.description()),
                     .next_step = "let a machine of the same spec ReceiveMigration first"});
  }
  auto end = timeline_.WaitFor(IsEndOfMigration, deadline, from);
  if (!end) throw Timeout({.summary = fmt::format("'{}' (qemu) was not moved to {} in time", name(), url)});
  json told = Execute("query-migrate", nullptr);
  if (!IsGoodEnd(*end)) {
    throw HostLacks({.summary = fmt::format("'{}' (qemu) was not moved to {}: {}", name(), url,
                                            told.value("error-desc", end->detail)),
                     .next_step = "it goes on here; let a machine of the same spec ReceiveMigration first"});
  }
  timeline_.Add("qemu", "moved", fmt::format("to {}, its guest stood still for {} ms", url, told.value("downtime", 0)));
  RunOnIoThread([&] { ending_ = "moved to " + url; });
  process_->Kill();
  process_.reset();
}

}  // namespace mayfly::internal
