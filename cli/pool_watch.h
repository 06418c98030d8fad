// The daemons of this user's runtime directory, and what each of them tells of itself.
//
//   PoolWatch watch;
//   do {
//     for (const auto& pool : watch.pools()) Show(pool.status);
//   } while (watch.Wait(Deadline::Never()));       // returns when something changed
//
// A daemon answers when something changed; one that starts is seen by its files. Nobody is asked again and again.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/unique_fd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mayfly::cli {

class PoolWatch {
 public:
  struct Pool {
    internal::FoundPool found;
    nlohmann::json status{};      // of one that runs
    Clock::time_point told_at{};  // when it said so
  };

  // Throws BadSpec when there is no runtime directory to look into.
  PoolWatch();

  // Those that run or ought to: without files that are left of a daemon that has gone.
  const std::vector<Pool>& pools() const { return pools_; }

  // Returns true when something changed, false when the deadline passed first. Throws HostLacks.
  bool Wait(Deadline deadline);

 private:
  // Adds daemons that are not known yet. True when there were some.
  bool Look();
  bool ReadAnswers(const std::vector<int>& ready);
  bool NewsOfOthers();

  internal::UniqueFd files_;  // inotify
  std::vector<Pool> pools_;
};

}  // namespace mayfly::cli
