#include <mayfly/internal/log_tail.h>

#include <algorithm>
#include <fstream>
#include <system_error>

namespace mayfly::internal {

uint64_t SizeOfFile(const std::filesystem::path& path) {
  std::error_code error;
  auto size = std::filesystem::file_size(path, error);
  return error ? 0 : size;
}

std::vector<std::string> LastLines(const std::filesystem::path& log, uint64_t begin) {
  constexpr uint64_t kRead = 8192;
  constexpr size_t kShownBytes = 400;
  constexpr size_t kShownLines = 5;
  uint64_t end = SizeOfFile(log);
  std::ifstream file(log, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(std::max(begin, end > kRead ? end - kRead : 0)));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    lines.push_back(line.substr(0, kShownBytes));
    if (lines.size() > kShownLines) lines.erase(lines.begin());
  }
  return lines;
}

}  // namespace mayfly::internal
