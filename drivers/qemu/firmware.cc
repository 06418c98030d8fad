#include "drivers/qemu/firmware.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/disk_image.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

struct Build {
  std::string_view code;
  std::string_view variables;
};
// Those of the needs "ovmf", the larger ones first: they are what current distributions have.
constexpr std::array kBuilds = {
    Build{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
    Build{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
    Build{"/opt/homebrew/share/qemu/edk2-x86_64-code.fd", "/opt/homebrew/share/qemu/edk2-i386-vars.fd"},
};

bool IsThere(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

// The variables that belong to a user's build, by the names that builds have.
fs::path VariablesBeside(const fs::path& code) {
  std::string name = code.filename();
  size_t at = name.find("CODE");
  if (at == std::string::npos) return {};
  fs::path variables = code.parent_path() / name.replace(at, 4, "VARS");
  return IsThere(variables) ? variables : fs::path();
}

}  // namespace

Firmware PrepareFirmware(const std::string& wanted, const fs::path& directory) {
  Firmware firmware{.code = wanted};
  if (wanted.empty()) return firmware;
  fs::path original;
  if (wanted == "uefi") {
    const auto* build =
        std::find_if(kBuilds.begin(), kBuilds.end(), [](const Build& row) { return IsThere(row.code); });
    if (build == kBuilds.end()) {
      throw HostLacks({.summary = fmt::format("there is no UEFI firmware for QEMU ({} and the like)", kBuilds[0].code),
                       .next_step = "install it (Debian: sudo apt-get install ovmf), or give boot.firmware its path"});
    }
    firmware.code = build->code;
    original = build->variables;
  } else {
    original = VariablesBeside(firmware.code);
  }
  if (original.empty()) return firmware;
  firmware.variables = directory / "uefi-variables.fd";
  if (!IsThere(firmware.variables)) CopyDiskFile(original, firmware.variables);
  return firmware;
}

}  // namespace mayfly::internal
