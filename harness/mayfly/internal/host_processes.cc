#include <mayfly/internal/host_processes.h>

#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace mayfly::internal {

namespace fs = std::filesystem;

UniqueFd OpenPidFd(pid_t pid) { return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

std::vector<pid_t> ProcessesThatKnow(std::string_view text, std::initializer_list<const char*> files) {
  constexpr uint64_t kLargestFile = uint64_t{4} << 20;
  std::vector<pid_t> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/proc", none)) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos || name == std::to_string(getpid())) continue;
    bool knows = std::any_of(files.begin(), files.end(), [&](const char* file) {
      try {
        return ReadWholeFile(entry.path() / file, kLargestFile).find(text) != std::string::npos;
      } catch (const Error&) {
        return false;  // it ended meanwhile, or belongs to somebody else
      }
    });
    if (knows) found.push_back(std::stoi(name));
  }
  return found;
}

void EndFirstWithoutMemory(pid_t child) {
  // Where it cannot be written, the host chooses by itself.
  std::ofstream("/proc/" + std::to_string(child) + "/oom_score_adj") << "1000";
}

}  // namespace mayfly::internal
