// The request that makes a machine, from its spec (protocol.h).
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace mayfly::vz {

// The spec's disks and, after them, its seed, as raw images: the framework takes no other. Throws BadSpec (a qcow2
// image; a size that is no multiple of 512) and HostLacks.
std::vector<internal::PreparedDisk> PrepareRawDisks(const MachineSpec& spec, const Sandbox& sandbox);

struct CreateRequest {
  nlohmann::json body{};
  std::vector<internal::UniqueFd> descriptors{};  // as `body` names them, by their place
  internal::UniqueFd agent{};                     // our end of the agent's channel, where the spec has an agent
};

// `spec` passes RefuseWhatIsNotOffered and its NICs have MACs. `identifier`: of the machine that was made before, if
// any. Throws BadSpec for values that the framework cannot take, HostLacks.
CreateRequest MakeCreateRequest(const MachineSpec& spec, const std::vector<internal::PreparedDisk>& disks,
                                const Sandbox& sandbox, const std::vector<uint8_t>& identifier);

}  // namespace mayfly::vz
