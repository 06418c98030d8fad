#include "drivers/qemu/qemu_program.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "drivers/qemu/host_facts.h"

namespace mayfly::internal {
namespace {

constexpr const char* kFix =
    "install it (Debian: sudo apt-get install qemu-system-x86 qemu-utils), or set MAYFLY_QEMU to the path of another";

std::string Variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return value != nullptr ? value : "";
}

std::string VersionOutput(const std::filesystem::path& path) {
  HostFacts facts;
  std::string key = "qemu --version of " + FileIdentity(path);
  if (auto known = facts.Get(key)) return *known;
  CommandOutput output = RunCommand({path.string(), "--version"}, Scaled(std::chrono::seconds(10)));
  if (output.status.ok() && ParseQemuVersion(output.out)) facts.Put(key, output.out);
  return output.out;
}

}  // namespace

std::string QemuVersion::ToString() const { return fmt::format("{}.{}.{}", major, minor, micro); }

std::string QemuProgram::Text() const { return fmt::format("QEMU {} ({})", version.ToString(), path.string()); }

std::optional<QemuVersion> ParseQemuVersion(std::string_view output) {
  constexpr std::string_view kBefore = "QEMU emulator version ";
  size_t at = output.find(kBefore);
  if (at == std::string_view::npos) return std::nullopt;
  std::string text(output.substr(at + kBefore.size(), 32));
  QemuVersion version;
  if (std::sscanf(text.c_str(), "%d.%d.%d", &version.major, &version.minor, &version.micro) < 2) return std::nullopt;
  return version;
}

QemuProgram FindQemu() {
  std::string given = Variable("MAYFLY_QEMU");
  std::string name = given.empty() ? "qemu-system-x86_64" : given;
  auto path = FindProgram(name);
  if (!path) {
    throw HostLacks({.summary = fmt::format("there is no QEMU: no program '{}'{}", name,
                                            given.empty() ? "" : ", which MAYFLY_QEMU names"),
                     .notes = {"PATH: " + Variable("PATH")},
                     .next_step = kFix});
  }
  std::string output = VersionOutput(*path);
  auto version = ParseQemuVersion(output);
  if (!version) {
    throw HostLacks({.summary = fmt::format("{} is no QEMU: `--version` does not print one", path->string()),
                     .notes = {fmt::format("it printed: {}", output.substr(0, output.find('\n')).substr(0, 200))},
                     .next_step = kFix});
  }
  if (*version < kOldestQemu) {
    throw HostLacks({.summary = fmt::format("QEMU {} ({}) is too old: mayfly needs {} or later", version->ToString(),
                                            path->string(), kOldestQemu.ToString()),
                     .next_step = kFix});
  }
  return {*path, *version};
}

std::vector<std::string> ExtraQemuArguments() {
  std::istringstream words(Variable("MAYFLY_QEMU_ARGS"));
  std::vector<std::string> arguments;
  for (std::string word; words >> word;) arguments.push_back(word);
  return arguments;
}

}  // namespace mayfly::internal
