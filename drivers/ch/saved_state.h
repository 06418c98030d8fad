// The files of a snapshot of Cloud Hypervisor, as copies of its guest need them.
//
// A snapshot is config.json (a VmConfig), state.json (the devices) and memory-ranges (the guest's memory, its ranges
// one behind the other). To restore it, Cloud Hypervisor reads all of the memory. A copy need not: when the state lists
// no memory to be read, and the memory zones of the configuration are files, it maps these privately, at the offsets
// that the state has for them. So copies share the pages of memory-ranges that they do not write to.
//
//   if (auto state = StateOfSharedMemory(text)) …               // else Cloud Hypervisor has to read the memory
//   std::string config = ConfigOfCopy(saved, copy, directory / kMemoryFile);
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "drivers/ch/config.h"

namespace mayfly::ch {

inline constexpr const char* kConfigFile = "config.json";
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kMemoryFile = "memory-ranges";

// The state for copies that map memory-ranges. Nothing when that cannot be: memory was added to the guest, or this is
// no state that is known. Throws BadSpec for what is no JSON.
std::optional<std::string> StateOfSharedMemory(const std::string& state);

// The saved configuration with what differs in the copy: kernel, disks (by their ids), NICs and the like are those of
// `copy`. `memory`: the file that is its memory; empty: it is read. Throws BadSpec.
std::string ConfigOfCopy(const std::string& saved, const VmConfig& copy, const std::filesystem::path& memory);

}  // namespace mayfly::ch
