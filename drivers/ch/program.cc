#include "drivers/ch/program.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>

#include <charconv>
#include <chrono>
#include <cstdlib>

namespace mayfly::ch {
namespace {

constexpr const char* kFix =
    "take one of github.com/cloud-hypervisor/cloud-hypervisor/releases and put it on PATH, or set "
    "MAYFLY_CLOUD_HYPERVISOR to its path";

}  // namespace

std::optional<Program> ParseVersion(std::string_view output) {
  constexpr std::string_view kBefore = "cloud-hypervisor v";
  if (!output.starts_with(kBefore)) return std::nullopt;
  std::string_view number = output.substr(kBefore.size());
  number = number.substr(0, number.find_first_of(" \r\n"));
  Program program{.version = "v" + std::string(number)};
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
  std::string output = internal::RunCommand({path->string(), "--version"}, Scaled(std::chrono::seconds(10))).out;
  std::optional<Program> program = ParseVersion(output);
  if (!program) {
    throw HostLacks(
        {.summary = fmt::format("{} is no Cloud Hypervisor: `--version` does not print one", path->string()),
         .notes = {fmt::format("it printed: {}", output.substr(0, output.find('\n')).substr(0, 200))},
         .next_step = kFix});
  }
  program->path = *path;
  if (program->major < kOldestVersion || program->major > kNewestVersion) {
    throw HostLacks({.summary = fmt::format("{} ({}) is of another age: mayfly drives v{} to v{}", program->Text(),
                                            path->string(), kOldestVersion, kNewestVersion),
                     .next_step = kFix});
  }
  return *program;
}

}  // namespace mayfly::ch
