// What processes of a test leave behind: other processes, files, mounts. For tests.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/unique_fd.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

constexpr uint64_t kLargestFile = uint64_t{4} << 20;

// The processes, but this one, whose command line or environment has `text`.
inline std::vector<pid_t> ProcessesThatKnow(std::string_view text) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos || name == std::to_string(getpid())) continue;
    std::string known;
    for (const char* file : {"cmdline", "environ"}) {
      try {
        known += ReadWholeFile(entry.path() / file, kLargestFile);
      } catch (const Error&) {
        // It ended meanwhile, or belongs to somebody else.
      }
    }
    if (known.find(text) != std::string::npos) found.push_back(std::stoi(name));
  }
  return found;
}

// Gives the processes that know `text` the time to end. Returns those that do not, a line each.
inline std::string ProcessesThatStay(std::string_view text) {
  Deadline deadline = Deadline::After(Scaled(std::chrono::seconds(20)));
  for (std::vector<pid_t> alive = ProcessesThatKnow(text); !alive.empty(); alive = ProcessesThatKnow(text)) {
    UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, alive[0], 0)));
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
