// Processes of this host, by their numbers.
#pragma once

#include <mayfly/internal/unique_fd.h>
#include <sys/types.h>

#include <initializer_list>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// Becomes readable when the process has ended. None, with errno: there is no such process any more, or no descriptor.
UniqueFd OpenPidFd(pid_t pid);

// Should the host run out of memory all the same, this child goes: a part of a VM, and neither its test nor what else
// runs here.
void EndFirstWithoutMemory(pid_t child);

// The processes, but this one, that have `text` in one of these files of theirs in /proc, such as {"environ"}. Those
// of other users are passed over.
std::vector<pid_t> ProcessesThatKnow(std::string_view text, std::initializer_list<const char*> files);

}  // namespace mayfly::internal
