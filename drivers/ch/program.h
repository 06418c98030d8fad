// The Cloud Hypervisor of this host: $MAYFLY_CLOUD_HYPERVISOR, else cloud-hypervisor on PATH.
//
//   Program program = FindCloudHypervisor();        // throws HostLacks when there is none, or of another age
//   program.Text() == "Cloud Hypervisor v53.0.0"
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly::ch {

// Major versions whose API this driver knows.
inline constexpr int kOldestVersion = 50;
inline constexpr int kNewestVersion = 54;
// From this one on a guest that powers off need not end the VMM (--no-shutdown), so an exit code 0 that nobody asked
// for is known to be a failure.
inline constexpr int kVersionWithNoShutdown = 52;
// From this one on the guest hears after a restore that its connections over vsock are gone.
inline constexpr int kVersionThatResetsVsock = 52;

struct Program {
  std::filesystem::path path{};
  std::string version{};  // "v53.0.0"
  int major = 0;
  bool guest_debug = false;  // built with the cargo feature of that name
  std::string Text() const { return "Cloud Hypervisor " + version; }
};

// Reads what `-v --version` prints; nothing when it is no such text.
std::optional<Program> ParseVersion(std::string_view output);

Program FindCloudHypervisor();

}  // namespace mayfly::ch
