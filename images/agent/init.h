// What the agent does as process 1 of a guest, before it serves: mounts, modules, the root disk.
#pragma once

#include <functional>
#include <string>

#include "loop.h"

namespace mayfly::agent {

// Mounts the kernel's file systems, loads the initramfs's modules and switches to the root disk when the kernel command
// line names one (mayfly.root=ID). Does not return when that system has an init of its own (mayfly.init=PATH): it is
// executed. When something fails, the reason is on the console and the process ends, which the kernel reports as a
// panic at once.
void SetUpGuest();

// Opens the agent's virtio port, or calls back when it has appeared: now, or from the loop.
void WhenPortAppears(Loop& loop, std::function<void(UniqueFd)> opened);

// True when the guest has a virtio console device, so that a port will appear.
bool HasVirtioConsole();

// A word of the kernel command line: the value of `name=`, "" for a bare `name`; `otherwise` when it is not there.
std::string KernelWord(std::string_view name, std::string otherwise = {});
bool HasKernelWord(std::string_view name);

void PrintOnConsole(const std::string& line);

}  // namespace mayfly::agent
