// mayflyd: owns the VMs of a user's tests. Started by the first test that needs it; see pool_connection.h.
#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/deadline.h>
#include <mayfly/errors.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/pool_connection.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/sandbox.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <string>

#include "daemon/event_log.h"
#include "daemon/listener.h"
#include "daemon/pool_server.h"

namespace mayfly::internal {
namespace {

// Each VM takes a few descriptors; the soft limit is often 1024 only.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Every rebuilt mayflyd has another name, so that files of earlier ones would gather. Logs are of use for some time.
constexpr auto kOldFiles = std::chrono::hours(24);

// Tells whoever started a detached daemon whether it is ready, and why not.
void Report(bool detached, const std::string& words) {
  int fd = detached ? kReadyDescriptor : STDERR_FILENO;
  [[maybe_unused]] ssize_t written = write(fd, words.data(), words.size());
  if (!detached) return;
  close(kReadyDescriptor);
  close(kStartLockDescriptor);
}

int Main(const std::string& name, bool detached, unsigned idle_seconds) {
  try {
    std::filesystem::path directory = RuntimeDirectory();
    std::string pool_name = name.empty() ? PoolName() : name;
    RemovePoolGarbage(directory, kOldFiles);
    EventLog log(directory / (pool_name + ".log"));
    Listener listener(directory, pool_name);
    PoolServer pool(log, HostBudget(HostBudget::FromEnvironment()), ForksKeptReady(/*in_daemon=*/true));
    log.Write("ready", {{"pid", getpid()}, {"version", MAYFLY_VERSION}});
    KillPoint("daemon.listens", {.daemon = getpid()});
    Report(detached, "ready\n");
    std::string why = listener.Run(pool, std::chrono::seconds(idle_seconds));
    KillPoint("daemon.leaves", {.daemon = getpid()});
    log.Write("leaving", {{"why", why}});
    pool.EndAll();
    log.Write("left");
    return 0;
  } catch (const Error& error) {
    Report(detached, std::string(error.what()) + "\n");
    return 1;
  }
}

}  // namespace
}  // namespace mayfly::internal

int main(int argc, char** argv) {
  CLI::App app("mayflyd owns the virtual machines of mayfly's tests. It starts by itself when it is needed.");
  std::string name;
  bool detach = false;
  unsigned idle_seconds = 60;
  app.add_option("--name", name, "what its files in the runtime directory are called");
  app.add_flag("--detach", detach, "go into the background and report on descriptor 3");
  app.add_option("--idle", idle_seconds, "leave after so many seconds without a client")->envname("MAYFLY_POOL_IDLE");
  app.set_version_flag("--version", MAYFLY_VERSION);
  CLI11_PARSE(app, argc, argv);
  if (detach && fork() != 0) _exit(0);  // no thread runs yet; the child is nobody's, so nobody has to reap it
  umask(077);
  if (chdir("/") != 0) return 1;
  mayfly::internal::RaiseDescriptorLimit();
  // Inherited by every VMM: a huge page for a few touched bytes made an idle fork 2 MiB larger.
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  return mayfly::internal::Main(name, detach, idle_seconds);
}
