// A unix socket that listens before its server is started, so that nobody waits for the server.
//
//   UniqueFd listener = ListenOn(sandbox.Path("tpm.sock"));
//   sandbox.Start({.argv = …, .inherit = {{listener.get(), 3}}});      // the client may connect at once
#pragma once

#include <mayfly/internal/unique_fd.h>

#include <filesystem>

namespace mayfly::internal {

// Replaces what an earlier boot left there; `waiting` clients have room until they are accepted. Throws HostLacks.
UniqueFd ListenOn(const std::filesystem::path& path, int waiting = 1);

}  // namespace mayfly::internal
