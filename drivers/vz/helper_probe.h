// The helper's word on this host: whether machines can be made, and on what.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace mayfly::vz {

struct HelperProbe {
  std::filesystem::path program{};
  bool simulated = false;
  bool supported = false;
  bool entitled = false;
  std::string macos{};      // "26.0"
  std::string guests_by{};  // simulated: the VMM behind the guests, empty when there is none
  uint64_t minimum_cpus = 0;
  uint64_t maximum_cpus = 0;
  uint64_t minimum_memory = 0;  // bytes
  uint64_t maximum_memory = 0;

  // "Virtualization.framework of macOS 15.1"; begins with "simulated" where it is.
  std::string Text() const;
};

// Reads what `mayfly-vz probe` prints. Throws HostLacks for what is no such text, or of another protocol.
HelperProbe ParseProbe(std::string_view text, const std::filesystem::path& program);

// Asks the helper, once in a process. Throws HostLacks where there is none ($MAYFLY_VZ names another).
const HelperProbe& ProbeHelper();

}  // namespace mayfly::vz
