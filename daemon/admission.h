// Who may have a VM now, so that all of them together leave the host alive.
//
//   Admission admission(HostBudget(HostBudget::FromEnvironment()));
//   Admission::Ticket ticket = admission.Enter({.memory = 2_GiB, .overhead = kVmmOverhead, .cpus = 2}, holder,
//   patience); ticket.AddProcess(vmm.pid());               // …the VM lives; the ticket's end makes room for the next
//
// A ticket is a promise: the VM may use all that it asked for, at any time. A guest touches its memory bit by bit, so
// what counts is what is promised and not used yet, besides what the host has left (see HostBudget). A VM that could
// not be had even if it were alone is refused at once. Of virtual CPUs one VM may have more than the budget: it is
// admitted when it is alone with them.
//
// First come, first served: whoever fits behind one that does not fit waits behind it, so that large VMs get their
// turn. With one exception: a process that has a VM and wants another goes before those that have none, because only
// its end makes room for them. When all that hold VMs wait for more nobody will ever make room; the last of them is
// refused after a while, so that its test fails and the others go on. (That goes by the thread that opened a lease: if
// another one is about to close it, this takes the wait for hopeless, which is why it lasts a while.) The same goes
// when no VM is held at all and other programs have taken the memory.
//
// A fork shares what it does not change with its template, so few ever take all that they could. Set aside for one is a
// part of what it could still take (Demand::share): what it has taken is seen, and counts whole. So the sum grows with
// what forks really do, and new VMs wait in time; docs/decisions tells what that costs.
//
// Forks that are kept warm for tests to come are held by idle tickets. They give way: when their memory is all that a
// waiter lacks, the function given to OnNeed is asked to release some.
//
// Thread-safe. Tickets end before their Admission does.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "daemon/host_budget.h"

namespace mayfly::internal {

// What a VMM of a booted guest takes besides the guest's memory: with software emulation 62 MiB of its own after a
// boot and some work, and up to 64 MiB for translated code alone. A fork takes less.
constexpr Bytes kVmmOverhead = Bytes(96 << 20);

struct Demand {
  Bytes memory{};    // of the guest
  Bytes overhead{};  // of its VMM
  double cpus = 1;   // virtual ones; a part of one for a guest that mostly waits
  double share = 1;  // of what it does not use yet, how much is set aside for it

  Bytes most() const;  // that it could take
};

// For a VM that boots, and for a copy of one that has booted: a quarter of what it could take, a sixteenth of its CPUs
// (what makes a guest busy is its boot, and what comes after is mostly waiting).
Demand DemandOfBooted(Bytes memory, double cpus);
Demand DemandOfFork(Bytes memory, double cpus);

// For whom, as messages name it.
struct Holder {
  std::string program{};
  pid_t process = -1;
  pid_t thread = -1;   // the one that waits for the answer
  std::string name{};  // of the VM
};

class Admission {
 public:
  // One that holds or waits, for messages and `mayfly pool status`.
  struct Entry {
    Holder holder{};
    Demand demand{};
    Clock::time_point since{};
    bool idle = false;
  };

  struct Notice {
    Demand demand{};               // what is waited for
    bool lacks_memory = true;      // else CPUs
    Bytes available{};             // what could be had now
    std::vector<Entry> holders{};  // oldest first
    size_t ahead = 0;              // how many wait before this one
    std::chrono::nanoseconds waited{};
    // "waiting for 2 GiB: kv_test (4242) holds 3 VMs with 6 GiB, …". One line.
    std::string Text() const;
    nlohmann::json ToJson() const;
  };

  struct Patience {
    Deadline deadline = Deadline::Never();
    int hang_up = -1;  // a socket: nobody waits any more once its other end is closed
    // Called while one waits, first after a second, without a lock held.
    std::function<void(const Notice&)> on_wait{};
  };

  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept;
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket();
    explicit operator bool() const { return admission_ != nullptr; }

    // The processes that use what was promised. Those that end are taken out by whoever reaped them.
    void AddProcess(pid_t pid);
    void RemoveProcess(pid_t pid);
    // An idle one becomes a lease's.
    void HandOver(Holder holder);

   private:
    friend class Admission;
    Ticket(Admission* admission, int id) : admission_(admission), id_(id) {}
    Admission* admission_ = nullptr;
    int id_ = 0;
  };

  struct Times {
    Duration first_notice = std::chrono::seconds(1);
    Duration next_notice = std::chrono::minutes(1);
    Duration hopeless = std::chrono::seconds(10);  // before one that nobody makes room for is refused
  };
  explicit Admission(HostBudget budget) : Admission(std::move(budget), Times()) {}
  Admission(HostBudget budget, Times times);

  // Waits until there is room. Throws BadSpec for what is more than the whole budget, Timeout at the deadline,
  // HostLacks when waiting has become hopeless, PeerGone when the other end of `hang_up` closes.
  Ticket Enter(const Demand& demand, const Holder& holder, const Patience& patience);

  // For something that is kept warm: an idle ticket, or none when there is no room or somebody waits. Never waits. An
  // idle one takes no CPUs.
  Ticket TryEnterIdle(const Demand& demand, const std::string& name);

  // `release` is called, by any thread and without a lock held, when idle tickets worth that many bytes must end for a
  // waiter to be admitted. It may end them at once or later. Set once, before there are idle tickets.
  void OnNeed(std::function<void(Bytes)> release);

  // Called, by any thread and without a lock held, whenever something was admitted, released or begins to wait.
  void OnChange(std::function<void()> changed);

  // Idle tickets can end now that could not when OnNeed's function was called.
  void LookAgain();

  // {"memory": {"whole": …, "promised": …, "idle": …, "available": …}, "cpus": {"whole": …, "promised": …},
  //  "waiting": […]}
  nlohmann::json Info() const;

 private:
  struct Promise {
    Entry entry{};
    std::vector<pid_t> processes{};
  };
  struct Waiter {
    Entry entry{};
    std::optional<int> ticket{};
    UniqueFd wake{};
  };
  struct Room {
    Bytes available{};  // what could be had
    Bytes lacking{};    // 0: none
    bool cpus = true;   // there are enough of them
    bool fits() const { return lacking == Bytes() && cpus; }
  };

  class Place;  // of a waiter in the queue

  // What is kept for one that holds a ticket: used already, and set aside.
  struct Claim {
    Bytes used{};
    Bytes aside{};
    Bytes sum() const;
  };

  Claim ClaimOf(const Promise& promise) const;
  Room RoomFor(const Demand& demand) const;
  bool HasCpus(const Demand& demand) const;
  bool HasRoom(const Demand& demand) const;
  Bytes Promised() const;
  Bytes Idle() const;  // of what is promised
  double PromisedCpus() const;
  void RefuseWhatNeverFits(const Demand& demand, const std::string& name) const;
  bool Holds(pid_t process) const;
  Waiter* Next() const;
  bool NobodyMakesRoom() const;
  // The one that is refused when nobody makes room.
  const Waiter* Victim() const;
  Notice NoticeFor(const Waiter& waiter) const;

  int Grant(Entry entry);
  void Revoke(int id);
  void Await(Waiter& waiter, const Patience& patience);
  // Admits those whose turn it is, and has idle tickets released for the next. Ends every change of what is below, and
  // unlocks.
  void Settle(std::unique_lock<std::mutex> lock);
  Bytes AdmitInTurn();

  const HostBudget budget_;
  const Times times_;
  std::function<void(Bytes)> release_;
  std::function<void()> changed_;

  mutable std::mutex mutex_;
  std::map<int, Promise> promises_;
  std::list<Waiter*> waiters_;
  int next_id_ = 1;
  bool releasing_ = false;  // a call of release_ is under way
  std::optional<Clock::time_point> hopeless_since_;
};

}  // namespace mayfly::internal
