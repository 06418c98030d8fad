// One run of Cloud Hypervisor in API mode: the process, its API, its events and its end.
//
//   VmmProcess vmm(sandbox, {.program = …, .log = sandbox.Path("vmm.log"), .console = …, .on_event = …, .on_exit = …});
//   vmm.api().Boot(deadline);
//
// The API's listener is made here and inherited, so a request may be sent at once. Events come through a pipe; what was
// told before the end is heard before the end is. The guest's serial port is the process's standard output, which is
// appended to the console's log: a file that the VMM opened itself would begin anew at each restart of the guest.
//
// The process works in the VM's directory, so a configuration names what lies there by its name only: it is the same
// for a copy of the guest, and for the one that a migration brings, in a directory of theirs.
//
// A running process can be handed to another one of ours (Release, and the constructor that takes Running): its API is
// reached by the name of its socket, its events by their pipe.
//
// Threads: as QemuProcess: handlers run on the I/O thread, and none runs after the destructor has returned. When that
// returns, the process is gone and reaped.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/process.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "drivers/ch/api.h"
#include "drivers/ch/event_stream.h"
#include "drivers/ch/program.h"

namespace mayfly::ch {

struct VmmExit {
  internal::ExitStatus status{};
  std::vector<std::string> last_words{};  // the last lines of its log
};

class VmmProcess {
 public:
  struct Options {
    Program program{};
    std::filesystem::path log{};
    std::filesystem::path console{};  // its standard output
    std::filesystem::path standard_input{"/dev/null"};
    std::string preload{};  // a library that is loaded into it
    // Where the guest's agent is awaited; it is shut down when the VMM has ended. Not owned, but copied.
    int agent_listener = -1;
    std::vector<std::unique_ptr<internal::Process>> servers{};  // what it needs and ends with, such as virtiofsd
    std::function<void(const VmmEvent& event)> on_event{};
    std::function<void(const VmmExit& exit)> on_exit{};
  };

  // What a process that runs is taken over by.
  struct Running {
    std::unique_ptr<internal::Process> child{};
    internal::UniqueFd events{};
    std::string received{};  // of an event that has come in part
  };

  // Throws HostLacks when the program cannot be started.
  VmmProcess(const Sandbox& sandbox, Options options);
  // Of the options, program, console and servers say nothing then.
  VmmProcess(const Sandbox& sandbox, Running running, Options options);
  ~VmmProcess();
  VmmProcess(const VmmProcess&) = delete;
  VmmProcess& operator=(const VmmProcess&) = delete;

  // Gives all of it away; only the destructor may follow.
  Running Release();

  pid_t pid() const { return child_->pid(); }
  Api& api() { return *api_; }
  void Signal(int signal) { child_->Signal(signal); }

  // Ends it by SIGKILL. When this returns it is reaped and on_exit has run.
  void Kill();
  // Waits until it has ended by itself and on_exit has run. False when the deadline passes.
  bool WaitForExit(Deadline deadline);
  std::vector<std::string> LastWords() const;

 private:
  class Watch;

  void Attach(const Sandbox& sandbox, Options options, uint64_t log_begin, internal::UniqueFd events,
              std::string received);

  std::unique_ptr<internal::Process> child_;
  std::shared_ptr<Watch> watch_;
  std::unique_ptr<Api> api_;
};

// The API's socket, in the VM's directory.
inline constexpr const char* kApiSocket = "api.sock";
// How many clients of a socket of a machine have room until they are accepted.
inline constexpr int kClientsWaiting = 16;

}  // namespace mayfly::ch
