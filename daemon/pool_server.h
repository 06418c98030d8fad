// The pool: all leases of one daemon, or of one process when MAYFLY_POOL=off.
//
//   PoolServer pool(log, HostBudget(HostBudget::FromEnvironment()));
//   pool.Serve(accept(…));            // a thread for each connection, as long as it lasts
//   pool.EndAll();
//
// A lease blocks its own thread only: while it boots or waits, others go on. Thread-safe.
#pragma once

#include <mayfly/internal/unique_fd.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "daemon/admission.h"
#include "daemon/change_counter.h"
#include "daemon/event_log.h"
#include "daemon/fork_pool.h"

namespace mayfly::internal {

class Session;

class PoolServer {
 public:
  // `warm`: see ForkPool.
  PoolServer(EventLog& log, HostBudget budget, size_t warm);
  ~PoolServer();

  // Serves a connection until its client closes it.
  void Serve(UniqueFd connection);

  // Readable when idle() has become true since it was read, and when somebody asked for the end.
  int event() const { return event_.get(); }
  bool stop_requested() const;
  // Nobody is connected but those that only watch.
  bool idle() const;

  void RequestStop();
  // Cuts off every connection and returns when all that they held is gone.
  void EndAll();

  // What `mayfly pool status` shows; "change" in it is another number whenever it has changed.
  nlohmann::json Status() const;
  ChangeCounter& changes() { return changes_; }
  // A connection watches from now on: it does not keep the pool from being idle.
  void AddWatcher();
  void RemoveWatcher();
  EventLog& log() { return log_; }
  Admission& admission() { return admission_; }
  ForkPool& forks() { return forks_; }

 private:
  void RunSession(int id, UniqueFd connection);
  void Notify() const;

  EventLog& log_;
  ChangeCounter changes_;
  Admission admission_;
  ForkPool forks_;
  UniqueFd event_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, Session*> sessions_;
  size_t threads_ = 0;
  size_t watchers_ = 0;  // of them
  int next_id_ = 1;
  bool stopping_ = false;
};

}  // namespace mayfly::internal
