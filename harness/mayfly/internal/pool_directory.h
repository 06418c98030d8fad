// The files of daemons in the runtime directory, and which of the daemons are alive.
//
//   for (FoundPool& pool : FindPools()) {
//     if (pool.state == PoolState::kRuns) pool.connection->Call({{"op", "status"}});
//   }
//
// A daemon is called pool-0123456789ab, after what it took from the environment (see PoolName): several may run side
// by side. Its files are that name with .sock, .log (and .log.1, the older half), .out, and .start, the lock of those
// who start it or remove its files.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/pool_connection.h>
#include <mayfly/internal/unique_fd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mayfly::internal {

struct PoolFiles {
  std::string name{};
  std::filesystem::path directory{};

  std::filesystem::path Path(const char* extension) const { return directory / (name + extension); }
  std::filesystem::path socket() const { return Path(".sock"); }
  std::filesystem::path log() const { return Path(".log"); }
};

// All of `runtime` of which there is any file, by name.
std::vector<PoolFiles> PoolFilesIn(const std::filesystem::path& runtime);

// A socket connected to the daemon; nothing when none listens. Throws HostLacks.
std::optional<UniqueFd> ConnectTo(const PoolFiles& pool);

// The lock under which a daemon is started, leaves, or has its files removed. Throws HostLacks.
UniqueFd LockStart(const PoolFiles& pool);
// Nothing when somebody else holds it or it cannot be had.
std::optional<UniqueFd> TryLockStart(const PoolFiles& pool);

enum class PoolState {
  kRuns,
  kForeign,  // it speaks another protocol
  kSilent,   // it does not answer
  kGone,     // nobody listens: its files are left
};

struct FoundPool {
  PoolFiles files{};
  PoolState state = PoolState::kGone;
  pid_t pid = -1;
  std::unique_ptr<PoolConnection> connection{};  // to one that runs
  std::string trouble{};                         // what it, or the attempt to talk to it, said
};

// All daemons of this runtime directory. One that does not answer within `patience` is silent. Throws what
// RuntimeDirectory throws.
std::vector<FoundPool> FindPools(Duration patience = std::chrono::seconds(5));

// The files of daemons of `runtime` that are gone and have written nothing for `age`. What is no file of a daemon, such
// as a directory in the place of a socket, is left alone.
std::vector<std::filesystem::path> FindPoolGarbage(const std::filesystem::path& runtime, Duration age = {});
// Removes them, and returns those that it removed.
std::vector<std::filesystem::path> RemovePoolGarbage(const std::filesystem::path& runtime, Duration age = {});

}  // namespace mayfly::internal
