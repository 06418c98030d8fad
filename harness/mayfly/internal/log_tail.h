// The end of a program's log, fit for a message.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mayfly::internal {

// 0 for a file that is not there.
uint64_t SizeOfFile(const std::filesystem::path& path);

// The last few lines that were written from `begin` on, each of a bounded length.
std::vector<std::string> LastLines(const std::filesystem::path& log, uint64_t begin);

}  // namespace mayfly::internal
