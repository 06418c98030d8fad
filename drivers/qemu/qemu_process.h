// One run of QEMU: the process, its control connection and its end.
//
//   QemuProcess process(sandbox, {.argv = …, .log = sandbox.Path("vmm.log"), .on_event = …, .on_exit = …});
//   process.qmp().Execute("system_reset", nullptr, deadline);
//   UniqueFd agent = process.TakeAgent();
//
// QEMU is watched by its pidfd on the I/O thread, so its end is told when it happens. What it said on the control
// socket before is told first. A QEMU that talks nonsense there is killed.
//
// Threads: the destructor and Kill may be called on any thread but one at a time; handlers run on the I/O thread, and
// none runs after the destructor has returned. When the destructor returns, the process is gone and reaped.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/process.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace mayfly::internal {

class QmpClient;

// How a run ended.
struct QemuExit {
  ExitStatus status{};
  std::string trouble{};                  // what was wrong with what it said on the control connection, or empty
  std::vector<std::string> last_words{};  // the last lines of its log, fit for a message
};

class QemuProcess {
 public:
  struct Options {
    std::vector<std::string> argv{};
    std::filesystem::path log{};                          // its standard output and error are appended here
    bool agent = false;                                   // whether it gets an agent channel
    UniqueFd state{};                                     // what it restores; none: it boots
    std::vector<std::pair<UniqueFd, int>> descriptors{};  // more that it gets, under these numbers
    std::vector<std::unique_ptr<Process>> servers{};      // what it needs and ends with, such as virtiofsd
    // Returns false when the guest is of no use any more: its agent channel is closed then, so that nobody waits for
    // it.
    std::function<bool(const std::string& name, const nlohmann::json& data)> on_event{};
    std::function<void(const QemuExit& exit)> on_exit{};
  };

  // Throws HostLacks when the program cannot be started.
  QemuProcess(const Sandbox& sandbox, Options options);
  // Takes over one that runs: the process, our ends of its channels, and what was read of the control channel already.
  struct Running {
    std::unique_ptr<Process> child{};
    UniqueFd qmp{};
    std::string qmp_received{};
    UniqueFd agent{};
  };
  QemuProcess(Running running, Options options);
  ~QemuProcess();
  QemuProcess(const QemuProcess&) = delete;
  QemuProcess& operator=(const QemuProcess&) = delete;

  // A further one of Options::servers, for what is added to it while it runs.
  void AddServer(std::unique_ptr<Process> server);

  pid_t pid() const { return child_->pid(); }
  QmpClient& qmp() { return *qmp_; }
  // Our end of the agent channel; once.
  UniqueFd TakeAgent() { return std::move(sockets_.agent); }

  // Gives all of it away; only the destructor may follow.
  Running Release();

  // Ends it by SIGKILL. When this returns it is reaped and on_exit has run.
  void Kill();
  // Waits until it has ended by itself and on_exit has run. False when the deadline passes.
  bool WaitForExit(Deadline deadline);
  // As in QemuExit, so far.
  std::vector<std::string> LastWords() const;

 private:
  class Watch;
  struct Sockets {
    UniqueFd qmp, qemu_qmp, agent, qemu_agent;
  };
  static Sockets MakeSockets(bool agent);
  void Attach(Options options, UniqueFd qmp, std::string qmp_received, uint64_t log_begin);
  static ChildOptions MakeChild(const Options& options, const Sockets& sockets);

  Sockets sockets_;
  std::unique_ptr<Process> child_;
  std::shared_ptr<Watch> watch_;
  std::unique_ptr<QmpClient> qmp_;
};

}  // namespace mayfly::internal
