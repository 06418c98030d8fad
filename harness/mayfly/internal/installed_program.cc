#include <mayfly/internal/installed_program.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <vector>

namespace mayfly::internal {

namespace fs = std::filesystem;

fs::path InstalledProgram(const std::string& name, const char* variable) {
  const char* chosen = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nothing sets it beside threads
  if (chosen != nullptr && *chosen != '\0') {
    if (access(chosen, X_OK) == 0) return chosen;
    throw HostLacks({.summary = fmt::format("{}: {}: {}", variable, chosen,
                                            std::error_code(errno, std::generic_category()).message())});
  }
  std::vector<fs::path> places = {MAYFLY_BUILD_LIBEXEC_DIRECTORY, MAYFLY_INSTALL_LIBEXEC_DIRECTORY};
  std::error_code unknown;
  fs::path self = fs::read_symlink("/proc/self/exe", unknown);
  if (!unknown) places.insert(places.begin(), self.parent_path().parent_path() / "libexec/mayfly");
  std::vector<std::string> notes;
  for (const fs::path& place : places) {
    if (access((place / name).c_str(), X_OK) == 0) return place / name;
    notes.push_back(fmt::format("looked for {}", (place / name).native()));
  }
  throw HostLacks({.summary = fmt::format("there is no {}", name),
                   .notes = std::move(notes),
                   .next_step = fmt::format("install mayfly, or set {} to where it is", variable)});
}

}  // namespace mayfly::internal
