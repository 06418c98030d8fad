// swtpm, which is the TPM 2.0 of one VM: the other end of QEMU's and Cloud Hypervisor's TPM device.
//
//   MakeTpmState(spec.tpm, directory);                            // once for each VM
//   std::unique_ptr<Process> server = ServeTpm(sandbox, directory, sandbox.Path("tpm.sock"));
//   // the VMM connects to tpm.sock
//
// It listens before ServeTpm returns, so the VMM may connect at once; it serves one connection and ends with it. What
// the TPM shall keep it writes to its directory when the guest asks for it, so a power cut loses nothing. For a VMM
// that connects anew at each restart of its guest there is ServeTpmAgain.
#pragma once

#include <mayfly/internal/process.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mayfly::internal {

inline constexpr int kSwtpmSocket = 3;  // the descriptor on which it listens

// Makes `directory`, with a copy of the state that the spec starts from. Throws HostLacks.
void MakeTpmState(const Tpm& tpm, const std::filesystem::path& directory);

// How it is started.
std::vector<std::string> SwtpmCommand(const std::string& program, const std::filesystem::path& directory);

// Throws HostLacks when there is no swtpm. Its log is the sandbox's swtpm.log.
std::unique_ptr<Process> ServeTpm(const Sandbox& sandbox, const std::filesystem::path& directory,
                                  const std::filesystem::path& socket);
// There is always one that answers. `sandbox`: one of its own (Sandbox::Inner).
std::unique_ptr<Process> ServeTpmAgain(Sandbox sandbox, const std::filesystem::path& directory,
                                       const std::filesystem::path& socket);

}  // namespace mayfly::internal
