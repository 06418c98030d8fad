// What saving, restoring and handing over a machine has in common for all backends: everything but the state that the
// VMM writes and reads itself.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/snapshot.h>

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace mayfly::internal {

// Makes the directory of a snapshot. Throws BadSpec when it is there already; `title`: "'kv' (qemu)".
void MakeSnapshotDirectory(const std::string& title, const std::filesystem::path& directory);

// Brings the disks that the machine writes to, and its console so far, into info.directory and into `info`. The guest
// stands still meanwhile. Throws HostLacks.
void SaveDisksAndConsole(SnapshotInfo& info, const std::vector<PreparedDisk>& disks,
                         const std::filesystem::path& console);

// Throws BadSpec when another backend, VMM or accelerator than that of `here` has saved it, and says what to set:
// `program_variable` names the program of the VMM.
void RequireSameVmm(const SnapshotInfo& saved, const SnapshotInfo& here, const std::string& program_variable);

// How the guest came to be what it is belongs to its console, to which the VMM appends.
void BringConsole(const std::filesystem::path& directory, const std::filesystem::path& console);

// An address that nobody asked for stays one when the machine goes on under it: copies of that get others. Adds the
// ids of such NICs of `spec` to `made_up`.
void RememberMadeUpMacs(const SnapshotInfo& info, const MachineSpec& spec, std::vector<std::string>& made_up);

// The disks of a machine, in the record by which it is handed over.
nlohmann::json DisksToRecord(const std::vector<PreparedDisk>& disks);
std::vector<PreparedDisk> DisksFromRecord(const nlohmann::json& record, const MachineSpec& spec);

}  // namespace mayfly::internal
