// The list of files of a directory that is built once: what it must hold, and whether it still does.
//
//   WriteManifest(entry, {{"name", "tiny"}});      // manifest.json: the files with sizes and checksums
//   CheckedEntry checked = CheckEntry(entry);
//   if (!checked.damage.empty()) …                 // "vmlinux has another checksum"
//
// A check is cheap while size, time and inode of all files are those of the last one by checksum (checked.json), unless
// MAYFLY_VERIFY is 1.
#pragma once

#include <mayfly/bytes.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace mayfly::internal {

inline constexpr const char* kManifest = "manifest.json";

// Lists all files of `entry` and writes the manifest, with the members of `manifest` besides. Throws HostLacks.
enum class Flush { kYes, kNo };  // bring the files to the disk, to be there after the host has lost its power
void WriteManifest(const std::filesystem::path& entry, nlohmann::json manifest, Flush flush = Flush::kYes);

struct CheckedEntry {
  Bytes size{};          // of all files
  std::string damage{};  // what is wrong; empty: nothing
};
CheckedEntry CheckEntry(const std::filesystem::path& entry);

// What shows, without reading it, that a file is the one that was looked at before; null when it is not there.
nlohmann::json FileStamp(const std::filesystem::path& file);

}  // namespace mayfly::internal
