// Child process of this one, owned.
//
// A ChildProcess is started by its constructor and is gone, reaped included, when its destructor returns: SIGTERM, then
// SIGKILL after `grace`. It lives in a process group of its own and dies with this process (PDEATHSIG on Linux), so a
// crash on either side leaves nothing behind. Its standard streams are never inherited: a child that keeps our stdout
// open would make CTest wait for its whole TIMEOUT after a crash.
//
//   ChildProcess vmm({.argv = {"qemu-system-x86_64", "-version"}, .stdout_path = log});
//   ExitStatus status = vmm.Wait(Deadline::After(5s));            // throws Timeout, the child keeps running
//
// PDEATHSIG follows the thread that forked, so every child is forked by one thread that lives as long as the process.
//
// Thread-safe after construction, except the destructor. Exit is observed through a pidfd, so a reused pid cannot be
// hit.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/types.h>

#include <filesystem>
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

class ChildProcess {
 public:
  // Throws HostLacks (program, errno, search path) when the program cannot be executed; nothing is left running then.
  explicit ChildProcess(ChildOptions options);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable once the child has ended. Owned by this.
  int pidfd() const { return pidfd_.get(); }

  // The exit status if the child has ended. Does not wait.
  std::optional<ExitStatus> Poll();
  // Waits for the end. Throws Timeout, and the child keeps running.
  ExitStatus Wait(Deadline deadline);
  // Sends `signal` to the child's process group; does nothing once it has ended.
  void Signal(int signal);
  // SIGKILL to the group, then reaps. Never throws.
  ExitStatus Kill() noexcept;
  // For the end of this process only, see KillAllChildren: kills and reaps, and every later call on this object blocks.
  void KillForGood() noexcept;

 private:
  class State;
  std::unique_ptr<State> state_;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

// Runs a program to its end and returns what it printed, for small helpers such as qemu-img.
struct CommandOutput {
  ExitStatus status{};
  std::string out{};  // standard output and error in one, at most 1 MiB of it
};
// Throws HostLacks when it cannot be started, Timeout (the program is killed) when it takes longer than `timeout`.
CommandOutput RunCommand(std::vector<std::string> argv, Duration timeout);

// The full path of a program in PATH, or nothing.
std::optional<std::filesystem::path> FindProgram(const std::string& name);

}  // namespace mayfly::internal
