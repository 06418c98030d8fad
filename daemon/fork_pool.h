// Forks: running copies of templates, some of them made before anybody asks.
//
//   ForkPool forks(log, admission, ForksKeptReady());
//   ForkKind kind{.directory = "/…/templates/tiny-1f3a"};
//   std::optional<ReadyFork> fork = forks.TakeWarm(kind);
//   if (!fork) fork = forks.Make(kind, admission.Enter(DemandOf(kind), …));      // restored now
//
// VMs that cannot be copied are booted ahead instead, and wait for the next leases in the same way:
//   std::optional<ReadyFork> vm = forks.TakeWarm({.driver = "qemu", .spec = spec});   // or none: boot your own
//
// Each has a ticket of the admission, those that wait an idle one: they give way when a lease lacks the memory, the
// ones of the kind that was used longest ago first, and none are made while somebody waits for memory.
//
// Behind the warm forks stand VMMs that have been started for a copy and wait for its state: when no fork is warm, the
// next lease gets one that is restored into such a VMM, which takes half of the time; and warm ones are made in them.
//
// A fork is ready when the agent in its guest has answered after the restore and has given it a clock, random numbers,
// names and addresses of its own. After each Take a thread of the pool restores others, so that the next lease finds
// some: `warm` of each template in use, with as many started VMMs, and at most kMostWarm in all; those of the templates
// used longest ago go first. It gives the test that has just got one a head start, in which that has the CPUs for
// itself.
//
// Thread-safe. Restores that are under way at once are limited to the number of CPUs; more would only slow each other
// down.
#pragma once

#include <mayfly/agent.h>
#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/machine.h>
#include <mayfly/snapshot.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>

#include "daemon/admission.h"
#include "daemon/event_log.h"

namespace mayfly::internal {

// A machine on its way to a test.
struct ReadyFork {
  Admission::Ticket ticket{};  // ends last
  std::string driver{};
  MachineSpec spec{};
  ReleasedMachine machine;
  UniqueFd agent{};
  std::optional<AgentSession> session{};  // of that channel
  UniqueFd in_use{};                      // keeps the template
};

// A copy of a template on its way: its machine is down, or its VMM waits for the state.
struct ForkToRestore {
  Admission::Ticket ticket{};
  UniqueFd in_use{};
  SnapshotInfo info{};
  std::unique_ptr<Machine> machine{};
};

// What ready machines come from.
struct ForkKind {
  std::filesystem::path directory{};  // a template; empty: they are booted
  std::string driver{};               // of those that are booted
  std::string spec{};                 // the same: JSON, image resolved, without a name
  bool booted() const { return directory.empty(); }
  friend bool operator==(const ForkKind&, const ForkKind&) = default;
};

// What one of them may take. Throws BadSpec when the template is gone.
Demand DemandOf(const ForkKind& kind);

// $MAYFLY_POOL_WARM: how many forks of a template wait for the next leases; by default 2 in mayflyd, none in a test
// process (MAYFLY_POOL=off). Throws BadSpec for what is no number from 0 to 64.
size_t ForksKeptReady(bool in_daemon);

class ForkPool {
 public:
  static constexpr size_t kMostWarm = 16;

  ForkPool(EventLog& log, Admission& admission, size_t warm);
  // Ends all warm forks and the thread that makes them.
  ~ForkPool();

  // One that was made ahead, or is made now in a VMM that was started ahead, with an idle ticket; more are made then.
  // Waits for one that is being booted, unless somebody else waits for that.
  std::optional<ReadyFork> TakeWarm(const ForkKind& kind);
  // Restores a copy of the template, or boots, and waits until the machine is ready. Throws what Driver::Create,
  // Machine::Restore, Machine::Boot and the agent throw.
  ReadyFork Make(const ForkKind& kind, Admission::Ticket ticket);

  // Called, by any thread and without a lock held, when another number of forks is ready. Set before the first is
  // taken.
  void OnChange(std::function<void()> changed) { on_change_ = std::move(changed); }

  // {"warm": 2, "started": 2, "taken": 40, "hits": 38, "templates": [{"directory": …, "warm": 2, "started": 2}]}
  nlohmann::json Status() const;

 private:
  struct Warm {
    ReadyFork fork;
    int64_t suspended;  // how long the host had slept when it was made
  };
  struct Shelf {  // the warm forks of one template
    ForkKind kind;
    std::deque<Warm> forks{};
    std::deque<ForkToRestore> started{};  // VMMs that wait
    size_t wanted = 0;                    // forks that are to be made still
    size_t wanted_started = 0;            // VMMs, the same
    size_t claimed = 0;                   // of them, those that somebody waits for
    bool starts_ahead = true;             // its backend has VMMs that wait for a state
  };

  Shelf& ShelfOf(const ForkKind& kind);
  void Refill();
  // What has become too much; ends outside the lock.
  struct Going {
    std::deque<Warm> forks{};
    std::deque<ForkToRestore> started{};
  };
  struct ToFill {
    ForkKind kind;
    bool warm = true;  // else a started VMM
  };

  std::optional<ReadyFork> RestoreInStarted(const ForkKind& kind, bool ahead);
  // One for the shelf; none when there is no room for it.
  std::optional<Warm> MakeAhead(const ForkKind& kind);
  std::optional<ForkToRestore> StartAhead(const ForkKind& kind);
  bool Fill(const ToFill& next);
  void GiveWay();
  std::optional<ToFill> NextToFill();
  void Trim(Going& going);

  EventLog& log_;
  Admission& admission_;
  const size_t warm_;
  std::function<void()> on_change_;
  std::counting_semaphore<> restores_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Shelf> shelves_;  // the one used last first
  size_t taken_ = 0;
  size_t hits_ = 0;
  Clock::time_point refill_from_{};
  bool ending_ = false;
  std::thread refill_;  // last: uses the members above
};

}  // namespace mayfly::internal
