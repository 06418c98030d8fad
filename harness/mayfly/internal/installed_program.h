// The programs of mayfly that other programs of it start: mayflyd, mayfly-conformance.
#pragma once

#include <filesystem>
#include <string>

namespace mayfly::internal {

// Where the program is: what the environment variable says; else beside the running program, in the ../libexec/mayfly
// of an installation that was moved as a whole; else in the build tree; else where it was to be installed. Throws
// HostLacks.
std::filesystem::path InstalledProgram(const std::string& name, const char* variable);

}  // namespace mayfly::internal
