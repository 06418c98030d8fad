// What processes of a test leave behind: other processes, files, mounts. For tests.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/unique_fd.h>
#include <poll.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// Gives the processes that know `text` the time to end. Returns those that do not, a line each.
inline std::string ProcessesThatStay(std::string_view text) {
  Deadline deadline = Deadline::After(Scaled(std::chrono::seconds(20)));
  auto that_know = [&] { return ProcessesThatKnow(text, {"cmdline", "environ"}); };
  for (std::vector<pid_t> alive = that_know(); !alive.empty(); alive = that_know()) {
    UniqueFd pidfd = OpenPidFd(alive[0]);
    pollfd ended{pidfd.get(), POLLIN, 0};
    if (!pidfd || poll(&ended, 1, deadline.RemainingForPoll()) != 0) continue;
    std::string left;
    for (pid_t pid : alive) left += "process " + std::to_string(pid) + "\n";
    return left;
  }
  return {};
}

// What is left of those that had this runtime directory: processes, files, mounts, a line each.
inline std::string LeftoversOf(const std::filesystem::path& runtime) {
  std::string left = ProcessesThatStay(runtime.native());
  if (!left.empty()) return left;
  std::error_code none;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(runtime, none)) {
    left += entry.path().string() + "\n";
  }
  std::ifstream mounts("/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(runtime) != std::string::npos) left += line + "\n";
  }
  return left;
}

}  // namespace mayfly::internal
