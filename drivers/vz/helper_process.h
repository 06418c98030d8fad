// One run of mayfly-vz: the process, its control socket, its events and its end.
//
//   HelperProcess helper(sandbox, {.program = …, .log = sandbox.Path("vmm.log"), .on_event = …, .on_exit = …});
//   helper.Call("create", request.body, request.descriptors, deadline);
//   helper.Call("start", {}, {}, deadline);
//
// Threads: Call may be used by several at once. Handlers run on a thread of the helper's own; what it told before its
// end is heard before its end is, and on_exit is the last of them. None runs after the destructor has returned, and
// then the process is gone and reaped.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/process.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace mayfly::vz {

struct HelperExit {
  internal::ExitStatus status{};
  std::string trouble{};                  // what was wrong with what it sent, where it was ended for that
  std::vector<std::string> last_words{};  // the last lines of its log
};

class HelperProcess {
 public:
  struct Options {
    std::filesystem::path program{};
    std::filesystem::path log{};
    std::function<void(const nlohmann::json& event)> on_event{};
    std::function<void(const HelperExit& exit)> on_exit{};
  };

  // Throws HostLacks when the program cannot be started.
  HelperProcess(const Sandbox& sandbox, Options options);
  ~HelperProcess();
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  pid_t pid() const { return child_->pid(); }
  void Signal(int signal) { child_->Signal(signal); }

  // Asks for an operation and returns its result. Throws the helper's error as the class that it says, VmmDied when the
  // helper ends, Timeout when it does not answer.
  nlohmann::json Call(const std::string& operation, nlohmann::json body,
                      const std::vector<internal::UniqueFd>& descriptors, Deadline deadline);

  // Ends it by SIGKILL. When this returns it is reaped and on_exit has run.
  void Kill();
  // Waits until it has ended by itself and on_exit has run. False when the deadline passes.
  bool WaitForExit(Deadline deadline);
  std::vector<std::string> LastWords() const;

 private:
  void Read();
  void Take(const nlohmann::json& message);
  std::string ReadUntilTheEnd();

  const Options options_;
  const uint64_t log_begin_;  // how much of the log earlier runs wrote
  std::unique_ptr<internal::MessageSocket> control_;
  std::unique_ptr<internal::Process> child_;
  std::mutex sending_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t last_id_ = 0;                                           // guarded by mutex_
  std::map<uint64_t, std::optional<nlohmann::json>> under_way_{};  // guarded by mutex_: id -> answer
  bool over_ = false;                                              // guarded by mutex_: on_exit has run
  bool gone_ = false;                                              // guarded by mutex_: nothing is answered any more
  std::thread reader_;
};

}  // namespace mayfly::vz
