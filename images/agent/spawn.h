// Starts a program: like posix_spawn, with a session of its own, a user and a working directory.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "users.h"

namespace mayfly::agent {

struct SpawnOptions {
  std::vector<const char*> argv;         // without the null at the end; at least one
  std::vector<const char*> environment;  // likewise; PATH in it is where argv[0] is looked up
  int fds[3] = {-1, -1, -1};             // its standard streams
  std::string directory;
  const User* user = nullptr;  // null: whom the agent runs as
  bool terminal = false;       // fds[0] is a terminal, which becomes the controlling one
};

struct SpawnResult {
  pid_t pid = -1;  // leads its own session and process group; every other descriptor of the agent is closed in it
  int error = 0;   // errno, 0 when it runs
  const char* step = "";  // what failed: "exec", "chdir", …
};

// The agent's memory is not copied: the child borrows it until it has executed the program, so a start takes less than
// a millisecond also in an emulated guest, and the error is known when this returns.
SpawnResult Spawn(const SpawnOptions& options);

}  // namespace mayfly::agent
