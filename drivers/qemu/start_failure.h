// Why a QEMU did not start, made into the right error.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mayfly::internal {

struct StartFailure {
  std::string name{};
  std::string machine{};
  std::string version{};                  // "QEMU 7.2.22 (/usr/bin/qemu-system-x86_64)"
  std::string trouble{};                  // what was seen on the control connection
  std::string ended{};                    // how the process ended
  std::vector<std::string> last_words{};  // of QEMU
  std::filesystem::path log{};
  bool restore = false;  // of a saved machine: whoever asked for it may never see the log
};

// Throws BadSpec, HostLacks or, when QEMU's words say nothing known, VmmDied; each with these words.
[[noreturn]] void ThrowQemuDidNotStart(const StartFailure& failure);

}  // namespace mayfly::internal
