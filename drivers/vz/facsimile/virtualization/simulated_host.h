// The Mac that the facsimile plays.
//
// Tests choose it by MAYFLY_VZ_SIMULATED_HOST, words with commas between:
//
//   macos=14.0          the version of its macOS; 26.0 unless told otherwise
//   no-entitlement      the program was signed without com.apple.security.virtualization
//   no-hardware         a Mac that cannot virtualise, such as a hosted runner that is a VM itself
#pragma once

#include <string>

namespace mayfly::facsimile {

struct SimulatedHost {
  int macos_major = 26;
  int macos_minor = 0;
  bool entitled = true;
  bool hardware = true;

  std::string Version() const { return std::to_string(macos_major) + "." + std::to_string(macos_minor); }
};

// Read once. Ends the process for words that it does not know.
const SimulatedHost& Host();

// The QEMU behind the guests, "QEMU 7.2.19 (/usr/bin/qemu-system-x86_64)"; empty when there is none.
std::string GuestVmm();

}  // namespace mayfly::facsimile
