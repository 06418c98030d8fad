#include <mayfly/internal/cgroups.h>

#include <fstream>
#include <sstream>
#include <string>

namespace mayfly::internal {
namespace {

void AddGroup(const std::filesystem::path& mount, std::filesystem::path group, bool unified,
              std::vector<Cgroup>& groups) {
  while (true) {
    groups.push_back({.unified = unified, .directory = mount / group.relative_path()});
    if (group == group.parent_path()) return;
    group = group.parent_path();
  }
}

}  // namespace

std::vector<Cgroup> CgroupsOf(const std::filesystem::path& root, std::string_view controller) {
  std::vector<Cgroup> found;
  const std::filesystem::path mount = root / "sys/fs/cgroup";
  // Lines such as "0::/user.slice/x" (unified) and "4:cpu,memory:/docker/x" (legacy).
  std::ifstream groups(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    size_t first = line.find(':');
    size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::filesystem::path group = line.substr(second + 1);
    if (!group.is_absolute()) continue;
    if (controllers == ",,") AddGroup(mount, group, true, found);
    if (controllers.find("," + std::string(controller) + ",") != std::string::npos) {
      AddGroup(mount / controller, group, false, found);
    }
  }
  return found;
}

std::optional<uint64_t> NumberIn(const std::filesystem::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string word;
    uint64_t number = 0;
    if (!key.empty() && !(words >> word && word == key)) continue;
    if (words >> number) return number;
  }
  return std::nullopt;
}

}  // namespace mayfly::internal
