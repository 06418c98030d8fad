// virtiofsd, which serves a directory of the host to one VM: the other end of a virtiofs device.
//
//   Share share{.tag = "src", .path = "/home/me/src", .readonly = true};
//   std::unique_ptr<Process> server = ServeShare(sandbox, share, sandbox.Path("share0.sock"));
//   // the VMM connects to share0.sock; its memory must be shared with other processes
//
// It listens before ServeShare returns, so the VMM may connect at once. It serves one connection and ends with it.
//
// Two programs have that name: the one of QEMU (Debian 12, up to QEMU 7), which needs root, and its successor in Rust.
// The old one cannot share read-only: it is given a read-only bind mount, mounts below included, in a mount namespace
// of its own. Either way root in the guest cannot write.
#pragma once

#include <mayfly/internal/process.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mayfly::internal {

enum class VirtiofsdKind { kQemu, kRust };

struct VirtiofsdProgram {
  std::filesystem::path path{};
  VirtiofsdKind kind = VirtiofsdKind::kRust;
};

// The program on PATH, else where distributions put it. Throws HostLacks.
VirtiofsdProgram FindVirtiofsd();

inline constexpr int kVirtiofsdSocket = 3;  // the descriptor on which it listens

// How it is started; `mount_point`: an empty directory for the read-only view of the old one.
std::vector<std::string> VirtiofsdCommand(const VirtiofsdProgram& program, const Share& share,
                                          const std::filesystem::path& mount_point);

// Throws HostLacks when there is no virtiofsd, or it cannot serve here. Its log is the sandbox's virtiofsd.log.
std::unique_ptr<Process> ServeShare(const Sandbox& sandbox, const Share& share, const std::filesystem::path& socket);
// The same for a VMM that connects anew at each restart of its guest: there is always one that answers. `sandbox`: one
// of its own (Sandbox::Inner).
std::unique_ptr<Process> ServeShareAgain(Sandbox sandbox, const Share& share, const std::filesystem::path& socket);

}  // namespace mayfly::internal
