#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/debian_bootstrap.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/shell_words.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kBootstrapTime = 30min;
constexpr uint64_t kLongestLog = 64 << 20;

// No file of the new system is younger: 2025-01-01. Packages' own times are older or cut to it.
constexpr const char* kNewestTime = "1735689600";

std::vector<std::string> LastLines(std::string_view text, size_t count) {
  std::vector<std::string> lines;
  while (!text.empty() && lines.size() < count) {
    size_t start = text.rfind('\n') + 1;  // 0 when there is none
    if (start < text.size()) lines.insert(lines.begin(), std::string(text.substr(start)));
    text = text.substr(0, start == 0 ? 0 : start - 1);
  }
  return lines;
}

std::vector<std::string> Arguments(const BootstrapRecipe& recipe, const fs::path& modules, const fs::path& out) {
  std::vector<std::string> argv = {"mmdebstrap", "--mode=auto", "--format=tar"};
  if (!recipe.variant.empty()) argv.push_back("--variant=" + recipe.variant);
  if (!recipe.packages.empty()) argv.push_back(fmt::format("--include={}", fmt::join(recipe.packages, ",")));
  for (const std::string& path : recipe.without) argv.push_back("--dpkgopt=path-exclude=" + path);
  std::string release = fs::directory_iterator(modules)->path().filename();
  argv.push_back("--customize-hook=mkdir -p \"$1/usr/lib/modules\"");
  argv.push_back(fmt::format("--customize-hook=sync-in {} /usr/lib/modules", ShellWord(modules.native())));
  argv.push_back(fmt::format("--customize-hook=chroot \"$1\" depmod {}", ShellWord(release)));
  for (const std::string& command : recipe.commands) {
    argv.push_back(fmt::format("--customize-hook=chroot \"$1\" /bin/sh -c {}", ShellWord(command)));
  }
  argv.push_back(recipe.suite);
  argv.push_back(out);
  return argv;
}

}  // namespace

fs::path BootstrapDebian(const BootstrapRecipe& recipe, const fs::path& modules, const fs::path& scratch) {
  if (!FindProgram("mmdebstrap")) {
    throw HostLacks({.summary = "mmdebstrap is not on PATH, which makes Debian systems",
                     .notes = {},
                     .next_step = "apt-get install mmdebstrap"});
  }
  fs::path out = scratch / "system.tar";
  fs::path log = scratch / "mmdebstrap.log";
  ChildProcess mmdebstrap({.argv = Arguments(recipe, modules, out),
                           .stdout_path = log,
                           .stderr_path = log,
                           .environment = {{"SOURCE_DATE_EPOCH", kNewestTime}, {"LC_ALL", "C"}},
                           .grace = 20s});  // it unmounts what it has mounted
  ExitStatus status = mmdebstrap.Wait(Deadline::After(kBootstrapTime));
  if (status.ok()) return out;
  constexpr size_t kShown = 6;
  throw HostLacks({.summary = fmt::format("mmdebstrap of Debian {} failed ({})", recipe.suite, status.ToString()),
                   .notes = LastLines(ReadWholeFile(log, kLongestLog), kShown),
                   .next_step = "it needs the network, and root or user namespaces for plain users (apt-get install "
                                "uidmap, and entries for the user in /etc/subuid and /etc/subgid)"});
}

}  // namespace mayfly::internal
