#include "drivers/vz/facsimile/virtualization/simulated_host.h"

#include <mayfly/deadline.h>
#include <mayfly/internal/child_process.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "drivers/vz/facsimile/virtualization/guest_process.h"

namespace mayfly::facsimile {
namespace {

SimulatedHost ReadHost() {
  SimulatedHost host;
  const char* variable = std::getenv("MAYFLY_VZ_SIMULATED_HOST");  // NOLINT(concurrency-mt-unsafe)
  std::istringstream words(variable == nullptr ? "" : variable);
  for (std::string word; std::getline(words, word, ',');) {
    if (word == "no-entitlement") {
      host.entitled = false;
    } else if (word == "no-hardware") {
      host.hardware = false;
    } else if (std::sscanf(word.c_str(), "macos=%d.%d", &host.macos_major, &host.macos_minor) < 1) {  // NOLINT
      std::fprintf(stderr, "MAYFLY_VZ_SIMULATED_HOST: \"%s\"; allowed: macos=N.N, no-entitlement, no-hardware\n",
                   word.c_str());
      std::exit(2);  // NOLINT(concurrency-mt-unsafe)
    } else if (word.find('.') == std::string::npos) {
      host.macos_minor = 0;
    }
  }
  return host;
}

}  // namespace

const SimulatedHost& Host() {
  static const SimulatedHost& host = *new SimulatedHost(ReadHost());
  return host;
}

std::string GuestVmm() {
  auto program = internal::FindProgram(kGuestProgram);
  if (!program) return {};
  std::string out = internal::RunCommand({program->string(), "--version"}, Scaled(std::chrono::seconds(10))).out;
  constexpr std::string_view kBefore = "version ";
  size_t at = out.find(kBefore);
  if (at == std::string::npos) return {};
  std::string version = out.substr(at + kBefore.size());
  return "QEMU " + version.substr(0, version.find_first_of(" (\n")) + " (" + program->string() + ")";
}

}  // namespace mayfly::facsimile
