#include "drivers/vz/helper_probe.h"

#include <fmt/format.h>
#include <mayfly/deadline.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/installed_program.h>

#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "drivers/vz/protocol.h"

namespace mayfly::vz {

std::string HelperProbe::Text() const {
  return fmt::format("{}Virtualization.framework of macOS {}", simulated ? "simulated " : "", macos);
}

HelperProbe ParseProbe(std::string_view text, const std::filesystem::path& program) {
  auto refuse = [&](const std::string& why) {
    throw HostLacks({.summary = fmt::format("{} is no mayfly-vz that this mayfly can use: {}", program.string(), why),
                     .next_step = "install mayfly as a whole, or set MAYFLY_VZ to the mayfly-vz that belongs to it"});
  };
  auto found = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!found.is_object())
    refuse(fmt::format("`probe` printed \"{}\"", text.substr(0, std::min<size_t>(text.size(), 200))));
  try {
    if (int protocol = found.at("protocol"); protocol != kProtocolVersion) {
      refuse(fmt::format("it speaks protocol {}, wanted is {}", protocol, kProtocolVersion));
    }
    return {.program = program,
            .simulated = found.at("simulated"),
            .supported = found.at("supported"),
            .entitled = found.at("entitled"),
            .macos = found.at("macos"),
            .guests_by = found.value("guests_by", ""),
            .minimum_cpus = found.at("minimum_cpus"),
            .maximum_cpus = found.at("maximum_cpus"),
            .minimum_memory = found.at("minimum_memory"),
            .maximum_memory = found.at("maximum_memory")};
  } catch (const nlohmann::json::exception& error) {
    refuse(error.what());
    throw;
  }
}

const HelperProbe& ProbeHelper() {
  static std::mutex mutex;
  static std::optional<HelperProbe>& known = *new std::optional<HelperProbe>;
  std::lock_guard lock(mutex);
  if (!known) {
    std::filesystem::path program = internal::InstalledProgram("mayfly-vz", "MAYFLY_VZ");
    known = ParseProbe(internal::RunCommand({program, "probe"}, Scaled(std::chrono::seconds(10))).out, program);
  }
  return *known;
}

}  // namespace mayfly::vz
