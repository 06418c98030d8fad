#include "drivers/ch/program.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <sys/stat.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>

namespace mayfly::ch {
namespace {

constexpr const char* kFix =
    "take one of github.com/cloud-hypervisor/cloud-hypervisor/releases and put it on PATH, or set "
    "MAYFLY_CLOUD_HYPERVISOR to its path";

// What changes when the file is replaced.
std::string IdentityOf(const std::filesystem::path& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return path.string();
  return fmt::format("{} {} {} {}.{}", path.string(), status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

// Asked once of each file: every fork wants to know.
std::string VersionText(const std::filesystem::path& path) {
  static std::mutex mutex;
  static auto* known = new std::map<std::string, std::string>;
  std::lock_guard lock(mutex);
  std::string& text = (*known)[IdentityOf(path)];
  if (text.empty()) {
    text = internal::RunCommand({path.string(), "-v", "--version"}, Scaled(std::chrono::seconds(10))).out;
  }
  return text;
}

}  // namespace

std::optional<Program> ParseVersion(std::string_view output) {
  constexpr std::string_view kBefore = "cloud-hypervisor v";
  if (!output.starts_with(kBefore)) return std::nullopt;
  std::string_view number = output.substr(kBefore.size());
  number = number.substr(0, number.find_first_of(" \r\n"));
  Program program{.version = "v" + std::string(number)};
  program.guest_debug = output.find("\"guest_debug\"") != std::string_view::npos;
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), program.major);
  if (error != std::errc() || end == number.data() + number.size() || *end != '.') return std::nullopt;
  return program;
}

Program FindCloudHypervisor() {
  const char* variable = std::getenv("MAYFLY_CLOUD_HYPERVISOR");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string given = variable != nullptr ? variable : "";
  std::string name = given.empty() ? "cloud-hypervisor" : given;
  auto path = internal::FindProgram(name);
  if (!path) {
    throw HostLacks({.summary = fmt::format("there is no Cloud Hypervisor: no program '{}'{}", name,
                                            given.empty() ? " on PATH" : ", which MAYFLY_CLOUD_HYPERVISOR names"),
                     .next_step = kFix});
  }
  std::string output = VersionText(*path);
  std::optional<Program> program = ParseVersion(output);
  if (!program) {
    throw HostLacks(
        {.summary = fmt::format("{} is no Cloud Hypervisor: `-v --version` does not print one", path->string()),
         .notes = {fmt::format("it printed: {}", output.substr(0, output.find('\n')).substr(0, 200))},
         .next_step = kFix});
  }
  program->path = std::filesystem::absolute(*path);  // it is started in another directory
  if (program->major < kOldestVersion || program->major > kNewestVersion) {
    throw HostLacks({.summary = fmt::format("{} ({}) is of another age: mayfly drives v{} to v{}", program->Text(),
                                            path->string(), kOldestVersion, kNewestVersion),
                     .next_step = kFix});
  }
  return *program;
}

}  // namespace mayfly::ch
