// A process that mayfly started and owns, wherever its parent is.
//
// Drivers start VMMs and their helpers through the sandbox of the VM, which knows who owns it:
//
//   std::unique_ptr<Process> vmm = sandbox.Start({.argv = {"qemu-system-x86_64", "-version"}, .stdout_path = log});
//   ExitStatus status = vmm->Wait(Deadline::After(5s));            // throws Timeout, the process keeps running
//
// It is a ChildProcess of this process, or one of mayflyd's that belongs to our lease. Either way it is gone, reaped
// included, when the destructor returns: SIGTERM, then SIGKILL after `grace`. It lives in a process group of its own
// and dies with its parent (PDEATHSIG on Linux). Its standard streams are never inherited: a child that keeps our
// stdout open would make CTest wait for its whole TIMEOUT after a crash.
//
// Thread-safe, except the destructor. Exit is observed through a pidfd, so a reused pid cannot be hit.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mayfly::internal {

// How a process ended: by itself with a code, or by a signal.
struct ExitStatus {
  int code = 0;    // 0 to 255; meaningless when signal is not 0
  int signal = 0;  // 0: it exited by itself

  bool ok() const { return code == 0 && signal == 0; }
  // "exit code 1", "killed by SIGKILL".
  std::string ToString() const;
  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

constexpr size_t kMaxInheritedDescriptors = 64;

struct ChildOptions {
  std::vector<std::string> argv{};  // argv[0] is looked up in PATH unless it has a slash
  std::filesystem::path stdin_path = "/dev/null";
  std::filesystem::path stdout_path = "/dev/null";  // created or appended to
  std::filesystem::path stderr_path = "/dev/null";  // the same file as stdout_path is allowed
  // Descriptors that the child gets, under these numbers (3 and up): {ours, the child's}. All others are closed there.
  std::vector<std::pair<int, int>> inherit{};
  std::vector<std::pair<std::string, std::string>> environment{};  // added to this process's own
  std::filesystem::path working_directory{};                       // empty: this process's own
  Duration grace = std::chrono::seconds(2);                        // between SIGTERM and SIGKILL in the destructor
};

class Process {
 public:
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // Readable once the process has ended. Owned by this.
  int pidfd() const { return pidfd_.get(); }

  // The exit status if the process has ended. Does not wait for it.
  virtual std::optional<ExitStatus> Poll() = 0;
  // Sends `signal` to the process group; does nothing once the process has ended.
  virtual void Signal(int signal) = 0;

  // Waits for the end. Throws Timeout, and the process keeps running.
  ExitStatus Wait(Deadline deadline);
  // SIGKILL to the group, then reaps. Never throws.
  ExitStatus Kill() noexcept;

 protected:
  Process() = default;
  // What a destructor does: SIGTERM when `grace` is more than nothing, then SIGKILL; returns when the process is
  // reaped.
  void End(Duration grace) noexcept;
  // Blocks until the process has ended or the deadline passes.
  bool WaitForExit(Deadline deadline) const noexcept;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

// Who starts the processes of a sandbox and removes its directory, when that is not this process.
class SandboxOwner {
 public:
  virtual ~SandboxOwner() = default;
  // As ChildProcess's constructor does.
  virtual std::unique_ptr<Process> Start(ChildOptions options) = 0;
  // The directory stays when the owner goes.
  virtual void Keep() = 0;
};

}  // namespace mayfly::internal
