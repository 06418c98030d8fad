#include <mayfly/internal/machine_snapshot.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/seed_iso.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

namespace mayfly::internal {

namespace fs = std::filesystem;
using nlohmann::json;

void MakeSnapshotDirectory(const std::string& title, const fs::path& directory) {
  if (fs::create_directory(directory)) return;
  throw BadSpec({.summary = fmt::format("cannot save {} to {}: it is there already", title, directory.string()),
                 .next_step = "give a directory that does not exist"});
}

void SaveDisksAndConsole(SnapshotInfo& info, const std::vector<PreparedDisk>& disks, const fs::path& console) {
  // The seed's bytes stay the same under another name: a guest may have it mounted.
  if (info.spec.seed && info.spec.seed->meta_data.empty()) info.spec.seed->meta_data = DefaultMetaData(info.spec.name);
  for (const PreparedDisk& disk : disks) {
    if (disk.readonly) continue;
    SnapshotDisk saved{.id = disk.disk.id, .file = "disk-" + disk.disk.id, .format = disk.format};
    CopyDiskFile(disk.path, info.directory / saved.file);
    info.disks.push_back(saved);
  }
  CopyDiskFile(console, info.directory / kSnapshotConsole);
}

void RequireSameVmm(const SnapshotInfo& saved, const SnapshotInfo& here, const std::string& program_variable) {
  struct Part {
    std::string name, saved, here, next_step;
  };
  const std::array parts = {
      Part{"backend", saved.driver, here.driver, "a snapshot is restored by the backend that saved it only"},
      Part{"VMM", saved.vmm, here.vmm,
           fmt::format("a snapshot is restored by the version that saved it only: set {} to a {}", program_variable,
                       saved.vmm)},
      Part{"accelerator", saved.accelerator, here.accelerator,
           fmt::format("a snapshot is restored by the accelerator that saved it only: try MAYFLY_ACCEL={}",
                       saved.accelerator)}};
  for (const Part& part : parts) {
    if (part.saved == part.here) continue;
    throw BadSpec({.summary = fmt::format("{} was saved by {} {}; here it is {}", saved.directory.string(), part.name,
                                          part.saved, part.here),
                   .next_step = part.next_step});
  }
}

void BringConsole(const fs::path& directory, const fs::path& console) {
  std::error_code missing;
  if (fs::file_size(console, missing) > 0 && !missing) return;
  fs::remove(console, missing);
  CopyDiskFile(directory / kSnapshotConsole, console);
}

void RememberMadeUpMacs(const SnapshotInfo& info, const MachineSpec& spec, std::vector<std::string>& made_up) {
  for (const std::string& id : info.made_up_macs) {
    auto has_id = [&](const Nic& nic) { return nic.id == id; };
    auto saved = std::find_if(info.spec.nics.begin(), info.spec.nics.end(), has_id);
    auto here = std::find_if(spec.nics.begin(), spec.nics.end(), has_id);
    bool known = std::find(made_up.begin(), made_up.end(), id) != made_up.end();
    if (known || saved == info.spec.nics.end() || here == spec.nics.end() || here->mac != saved->mac) continue;
    made_up.push_back(id);
  }
}

json DisksToRecord(const std::vector<PreparedDisk>& disks) {
  json record = json::array();
  for (const PreparedDisk& disk : disks) {
    record.push_back({{"id", disk.disk.id},
                      {"path", disk.path.string()},
                      {"qcow2", disk.format == DiskFormat::kQcow2},
                      {"readonly", disk.readonly}});
  }
  return record;
}

std::vector<PreparedDisk> DisksFromRecord(const json& record, const MachineSpec& spec) {
  std::vector<PreparedDisk> disks;
  for (const json& disk : record) {
    PreparedDisk prepared{.path = disk.at("path").get<std::string>(),
                          .format = disk.at("qcow2").get<bool>() ? DiskFormat::kQcow2 : DiskFormat::kRaw,
                          .readonly = disk.at("readonly").get<bool>()};
    prepared.disk.id = disk.at("id").get<std::string>();
    for (const Disk& asked : spec.disks) {
      if (asked.id == prepared.disk.id) prepared.disk = asked;
    }
    disks.push_back(std::move(prepared));
  }
  return disks;
}

}  // namespace mayfly::internal
