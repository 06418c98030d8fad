// From the flags of `mayfly run` to the spec of its VM.
#pragma once

#include <mayfly/spec.h>

#include <optional>
#include <string>
#include <vector>

namespace mayfly::cli {

struct SpecFlags {
  std::optional<std::string> file{};  // --spec; the other flags change what it says
  std::optional<std::string> image{};
  std::optional<std::string> cpus{};
  std::optional<std::string> memory{};
  std::optional<std::string> driver{};
  std::optional<std::string> kernel{};
  std::optional<std::string> initramfs{};
  std::optional<std::string> append{};
  std::vector<std::string> disks{};  // images of the host; the guest writes to private clones
};

// A valid spec. Throws BadSpec that names the flag, or the file and field.
MachineSpec SpecOf(const SpecFlags& flags);

}  // namespace mayfly::cli
