// `mayfly` from its words to its exit code.
//
//   int main(int argc, char** argv) { return mayfly::cli::Mayfly({argv + 1, argv + argc}); }
#pragma once

#include <string>
#include <vector>

namespace mayfly::cli {

// Parses, does what is asked, and tells errors on standard error. Returns the exit code, see commands.h.
int Mayfly(const std::vector<std::string>& arguments);

}  // namespace mayfly::cli
