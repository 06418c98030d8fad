// Points at which a test lets a process die, to see what that leaves. RocksDB's way.
//
//   KillPoint("lease.registered", {.test = peer, .daemon = getpid()});
//
// $MAYFLY_KILL_POINT says who dies where, once: "daemon@lease.registered:/tmp/token" kills the daemon with SIGKILL when
// some process passes that point for the first time, and removes the file /tmp/token, which has to exist. That process
// goes on when the victim is dead. Points are listed in kKillPoints only; a name that is not there does not compile.
//
// Compiled into builds with MAYFLY_KILL_POINTS only, which release builds are not: there it is nothing.
#pragma once

#include <sys/types.h>

#include <array>
#include <string_view>

namespace mayfly::internal {

struct KillPointRow {
  std::string_view name;
  std::string_view victims;  // of "test daemon vmm", those that the point knows
};

// In the order in which a lease passes them: create, register, hand over, return, remove.
inline constexpr std::array kKillPoints = {
    KillPointRow{"daemon.started", "test"},              // its process is there, and does not listen yet
    KillPointRow{"daemon.listens", "daemon"},            // and has told nobody
    KillPointRow{"lease.connected", "test daemon"},      // the test asks for nothing yet
    KillPointRow{"lease.admitted", "test daemon"},       // memory and CPUs are promised
    KillPointRow{"lease.created", "test daemon"},        // the sandbox is there
    KillPointRow{"lease.registered", "test daemon"},     // status tells of it
    KillPointRow{"lease.handed-over", "test daemon"},    // the reply is sent
    KillPointRow{"process.created", "test daemon vmm"},  // the VMM runs
    KillPointRow{"process.registered", "test daemon vmm"},
    KillPointRow{"process.handed-over", "test daemon vmm"},
    KillPointRow{"fork.created", "daemon"},       // a sandbox for it is there
    KillPointRow{"fork.restored", "daemon vmm"},  // its CPUs run, its agent was not asked yet
    KillPointRow{"fork.ready", "daemon vmm"},
    KillPointRow{"fork.taken", "test daemon vmm"},  // for this lease
    KillPointRow{"fork.registered", "test daemon vmm"},
    KillPointRow{"fork.handed-over", "test daemon vmm"},
    KillPointRow{"fork.adopted", "test daemon vmm"},  // the test has its descriptors
    KillPointRow{"lease.returns", "test daemon"},     // the test lets go of it
    KillPointRow{"lease.returned", "test daemon"},    // the daemon begins to end it
    KillPointRow{"lease.killed", "test daemon"},      // its processes are reaped
    KillPointRow{"lease.removed", "test daemon"},     // its sandbox is gone
    KillPointRow{"daemon.leaves", "daemon"},          // its socket is gone
    KillPointRow{"template.begun", "test"},           // its directory is there
    KillPointRow{"template.built", "test"},
    KillPointRow{"template.named", "test"},  // the index tells of it
    KillPointRow{"template.placed", "test"},
};

// A name of the list.
class KillPointName {
 public:
  template <size_t size>
  consteval KillPointName(const char (&name)[size]) : name_(name) {  // NOLINT(google-explicit-constructor)
    bool known = false;
    for (const KillPointRow& row : kKillPoints) known |= row.name == name_;
    if (!known) throw "there is no such kill point";
  }
  std::string_view name() const { return name_; }

 private:
  std::string_view name_;
};

// Those who can be killed; -1: not there.
struct KillPointProcesses {
  pid_t test = -1;
  pid_t daemon = -1;
  pid_t vmm = -1;
};

#ifdef MAYFLY_KILL_POINTS
void KillPoint(KillPointName point, const KillPointProcesses& processes);
#else
inline void KillPoint(KillPointName, const KillPointProcesses&) {}
#endif

}  // namespace mayfly::internal
