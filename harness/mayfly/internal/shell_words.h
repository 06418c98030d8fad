// Words for command lines that people copy into a shell, and for scripts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// A word as POSIX shells read it back: as it is where nothing in it is special, else in single quotes.
std::string ShellWord(std::string_view word);

// Words with spaces between.
std::string ShellLine(const std::vector<std::string>& words);

}  // namespace mayfly::internal
