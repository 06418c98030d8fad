// UEFI firmware: OVMF in flash, as a PC has it.
//
//   Firmware firmware = PrepareFirmware("uefi", sandbox.directory());
//
// The code is the host's and read-only; the variables are a file of the VM's own, which begins as the build has it and
// stays as long as the VM, so what a guest sets outlasts its reboots and power cuts.
#pragma once

#include <filesystem>
#include <string>

namespace mayfly::internal {

struct Firmware {
  std::filesystem::path code{};       // empty: none; the kernel is started directly
  std::filesystem::path variables{};  // empty: the build has none
};

// `wanted`: as in BootSource. Makes the VM's variables in `directory`, unless they are there. Throws HostLacks.
Firmware PrepareFirmware(const std::string& wanted, const std::filesystem::path& directory);

}  // namespace mayfly::internal
