// mayflyd's socket: accepts connections until the pool is told to stop, a signal comes, or nobody has come for a while.
//
//   Listener listener(RuntimeDirectory(), "pool-0123456789ab");
//   listener.Run(pool, {.idle = 60s});
//
// Only processes of this user are served. An idle daemon takes its socket away under the lock of those who start one,
// so a client either reaches it or starts another.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/unique_fd.h>

#include <filesystem>
#include <string>

#include "daemon/pool_server.h"

namespace mayfly::internal {

class Listener {
 public:
  // Throws BadSpec when something that is no socket has the name, HostLacks when a daemon listens there already or the
  // socket cannot be made.
  Listener(const std::filesystem::path& directory, const std::string& name);
  ~Listener();

  // Returns why it ended: "idle", "asked to", "SIGTERM". Its socket is gone by then: whoever comes next starts another
  // daemon, while this one ends what it holds.
  std::string Run(PoolServer& pool, Duration idle);

 private:
  void Accept(PoolServer& pool);
  std::string Serve(PoolServer& pool, Duration idle);
  bool LeaveIfNobodyComes();
  void TakeAway();

  const PoolFiles files_;
  UniqueFd socket_;
  UniqueFd spare_;  // given up for a moment to refuse a connection when there are no descriptors left
  bool bound_ = false;
};

}  // namespace mayfly::internal
