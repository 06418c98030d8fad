// What cleans up after this process when it is killed.
//
// The janitor is a small shell process that holds the reading end of a pipe. This process and all its VMMs hold the
// writing end, so the pipe closes when the last of them is gone, by whatever cause; then the janitor removes the
// directory it was given and ends. It has left this process's session and parentage, so that what kills a process tree
// (CTest's TIMEOUT) leaves it alone.
#pragma once

#include <filesystem>

namespace mayfly::internal {

// Starts the janitor for `directory`. Throws HostLacks when no process or descriptor is to be had. Once a process.
void StartJanitor(const std::filesystem::path& directory);

// The writing end, for children to inherit; -1 while there is no janitor.
int JanitorDescriptor();

// Kills and reaps every ChildProcess, for the end of this process only: whoever asks for one of them afterwards is held
// up for ever, so that no other thread takes the death of its VM for a failure and ends the process with another
// status.
void KillAllChildren() noexcept;

}  // namespace mayfly::internal
