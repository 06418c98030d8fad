// Moving a running machine to another Cloud Hypervisor process.
//
// The receiver waits in one call, which returns when the VM has come; the event migration-receive-ready tells that a
// sender may connect. The sender's call returns at once (v53), and events tell how it ends. Memory is copied while the
// guest runs. Files of the VM's own directory have relative names in the configuration that moves with it, so they are
// those of the receiver there.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "drivers/ch/capabilities.h"
#include "drivers/ch/ch_ask.h"
#include "drivers/ch/ch_machine.h"

namespace mayfly::ch {
namespace {

namespace fs = std::filesystem;
using internal::RunOnIoThread;
using std::chrono::milliseconds;

// The sockets of a process, as /proc/net names them.
std::set<std::string> SocketsOf(pid_t pid) {
  constexpr std::string_view kBefore = "socket:[";
  std::set<std::string> inodes;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", pid), error)) {
    std::string target = fs::read_symlink(entry.path(), error).string();
    if (!error && target.starts_with(kBefore)) {
      inodes.insert(target.substr(kBefore.size(), target.size() - kBefore.size() - 1));
    }
  }
  return inodes;
}

// The TCP port at which a process listens.
std::optional<uint16_t> ListeningPort(pid_t pid) {
  constexpr const char* kListens = "0A";
  const std::set<std::string> own = SocketsOf(pid);
  for (const char* table : {"tcp", "tcp6"}) {
    std::ifstream file(fmt::format("/proc/{}/net/{}", pid, table));
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string slot, local, remote, state, queues, timer, retries, uid, timeout, inode;
      words >> slot >> local >> remote >> state >> queues >> timer >> retries >> uid >> timeout >> inode;
      if (state != kListens || own.count(inode) == 0) continue;
      constexpr int kHexadecimal = 16;
      return static_cast<uint16_t>(std::stoul(local.substr(local.find(':') + 1), nullptr, kHexadecimal));
    }
  }
  return std::nullopt;
}

bool IsOver(const Event& event) {
  if (event.source == "ch") return event.name == "migration-finished" || event.name == "migration-failed";
  return event.source == "mayfly" && event.name == "state" &&
         (event.detail.starts_with("Stopped") || event.detail.starts_with("Failed"));
}

// From the pause at the end of the migration on; it goes on over there before this end hears of it.
std::string Downtime(const Timeline& timeline, size_t from) {
  std::optional<Duration> paused;
  const std::vector<Event> events = timeline.Events();
  for (size_t i = from; i < events.size(); ++i) {
    const Event& event = events[i];
    if (event.source != "ch") continue;
    if (event.name == "paused") paused = event.at;
    if (event.name == "migration-finished" && paused) return "at most " + ForPeople(event.at - *paused);
  }
  return "an unknown time";
}

}  // namespace

void ChMachine::RequireMovable(const std::string& url) const {
  if (!url.starts_with("unix:") && !url.starts_with("tcp:")) {
    throw BadSpec({.summary = fmt::format(
                       "'{}': \"{}\" is no address for a migration; allowed: unix:PATH, tcp:HOST:PORT", name(), url)});
  }
  std::string why;
  for (const internal::PreparedDisk& disk : disks_) {
    if (!disk.readonly) why = fmt::format("disk '{}' stays in this machine's directory", disk.disk.id);
  }
  if (!spec_.shares.empty()) why = "shares are served by a process that does not move";
  if (spec_.tpm) why = "the TPM is served by a process that does not move";
  if (!why.empty()) throw Unsupported(Capability::kStateMigration, driver(), why);
}

// With tcp:HOST:0 the kernel has chosen the port, and nothing but /proc tells which.
std::string ChMachine::ListeningAddress() const {
  if (!receiving_.starts_with("tcp:") || !receiving_.ends_with(":0") || !process_) return receiving_;
  auto port = ListeningPort(process_->pid());
  return port ? fmt::format("{}:{}", receiving_.substr(0, receiving_.rfind(':')), *port) : receiving_;
}

void ChMachine::ReceiveMigration(const std::string& url) {
  RequireMovable(url);
  RequireDown("receive a migration");
  Launch("receiving");
  RunOnIoThread([&] { receiving_ = url; });
  Begin("receive", "goes on from another process", [&](Api& api) {
    // Whoever waits in it hears nothing, SIGTERM included; what ends it early is SIGKILL, by the deadline or by Kill.
    api.AcceptMigration({.receiver_url = url}, SaveDeadline());
    bool paused = api.Info(CallDeadline()).state == VmState::kPaused;
    if (!paused) return;
    MachineStatus now = status();
    now.paused = true;
    SetStatus(now);
  });
}

void ChMachine::SendMigration(const std::string& url) {
  RequireMovable(url);
  const size_t from = timeline_.size();
  RunOnIoThread([&] { moving_to_ = url; });
  ch::SendMigration request{.destination_url = url};
  // Memory that is a file already goes over as that.
  if (url.starts_with("unix:") && spec_.hugepages) request.local = true;
  try {
    Ask("move", [&](Api& api) { api.StartMigration(request, SaveDeadline()); });
  } catch (const ApiError& error) {
    ThrowNotMoved(url, {error.text().summary});
  }
  auto end = timeline_.WaitFor(IsOver, SaveDeadline(), from);
  if (!end) throw Timeout({.summary = fmt::format("'{}' (ch) was not moved to {} in time", name(), url)});
  if (end->name == "migration-failed") {
    AwaitReturn();
    ThrowNotMoved(url, process_->LastWords());
  }
  if (end->name != "state" && !process_->WaitForExit(CallDeadline())) process_->Kill();
  if (status().state != MachineState::kStopped) throw VmmDied({.summary = status().reason});
  timeline_.Add("ch", "moved", fmt::format("to {}, its guest stood still for {}", url, Downtime(timeline_, from)));
  process_.reset();
}

void ChMachine::ThrowNotMoved(const std::string& url, std::vector<std::string> notes) {
  RunOnIoThread([&] { moving_to_.clear(); });
  throw HostLacks({.summary = fmt::format("'{}' (ch) was not moved to {}", name(), url),
                   .notes = std::move(notes),
                   .next_step = "it goes on here; let a machine of the same spec ReceiveMigration first"});
}

// The event comes a moment before the VMM has its machine back, and nothing tells of that.
void ChMachine::AwaitReturn() {
  Deadline deadline = CallDeadline();
  constexpr auto kPause = milliseconds(5);
  while (true) {
    try {
      Ask("move", [&](Api& api) { api.ReadCounters(deadline); });
      return;
    } catch (const ApiError&) {
      if (deadline.Passed() || process_->WaitForExit(Deadline::After(kPause))) throw;
    }
  }
}

}  // namespace mayfly::ch
