// Child process of this one, owned.
//
// A ChildProcess is started by its constructor; what it promises is told in process.h.
//
//   ChildProcess vmm({.argv = {"qemu-system-x86_64", "-version"}, .stdout_path = log});
//   ExitStatus status = vmm.Wait(Deadline::After(5s));            // throws Timeout, the child keeps running
//
// PDEATHSIG follows the thread that forked, so every child is forked by one thread that lives as long as the process.
#pragma once

#include <mayfly/internal/process.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mayfly::internal {

class ChildProcess : public Process {
 public:
  // Throws HostLacks (program, errno, search path) when the program cannot be executed; nothing is left running then.
  explicit ChildProcess(ChildOptions options);
  ~ChildProcess() override;

  std::optional<ExitStatus> Poll() override;
  void Signal(int signal) override;
  // For the end of this process only, see KillAllChildren: kills and reaps, and every later call on this object blocks.
  void KillForGood() noexcept;

 private:
  class State;
  std::unique_ptr<State> state_;
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
