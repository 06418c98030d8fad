// One run of Cloud Hypervisor in API mode: the process, its API, its events and its end.
//
//   VmmProcess vmm(sandbox, {.program = …, .log = sandbox.Path("vmm.log"), .console = …, .on_event = …, .on_exit = …});
//   vmm.api().Boot(deadline);
//
// The API's listener is made here and inherited, so a request may be sent at once. Events come through a pipe; what was
// told before the end is heard before the end is. The guest's serial port is the process's standard output, which is
// appended to the console's log: a file that the VMM opened itself would begin anew at each restart of the guest.
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
    std::filesystem::path console{};
    // Where the guest's agent is awaited; it is shut down when the VMM has ended. Not owned, but copied.
    int agent_listener = -1;
    std::vector<std::unique_ptr<internal::Process>> servers{};  // what it needs and ends with, such as virtiofsd
    std::function<void(const VmmEvent& event)> on_event{};
    std::function<void(const VmmExit& exit)> on_exit{};
  };

  // Throws HostLacks when the program cannot be started.
  VmmProcess(const Sandbox& sandbox, Options options);
  ~VmmProcess();
  VmmProcess(const VmmProcess&) = delete;
  VmmProcess& operator=(const VmmProcess&) = delete;

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

  std::unique_ptr<internal::Process> child_;
  std::shared_ptr<Watch> watch_;
  std::unique_ptr<Api> api_;
};

// How many clients of a socket of a machine have room until they are accepted.
inline constexpr int kClientsWaiting = 16;

}  // namespace mayfly::ch
