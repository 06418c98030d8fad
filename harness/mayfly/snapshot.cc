#include <mayfly/snapshot.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/json_reader.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mayfly {

namespace internal {

template <>
inline constexpr std::tuple kSpecFields<SnapshotDisk>{
    Field("id", &SnapshotDisk::id), Field("file", &SnapshotDisk::file), Field("format", &SnapshotDisk::format)};
template <>
inline constexpr std::tuple kSpecFields<SnapshotInfo>{Field("driver", &SnapshotInfo::driver),
                                                      Field("vmm", &SnapshotInfo::vmm),
                                                      Field("machine", &SnapshotInfo::machine),
                                                      Field("accelerator", &SnapshotInfo::accelerator),
                                                      Field("shared_memory", &SnapshotInfo::shared_memory),
                                                      Field("spec", &SnapshotInfo::spec),
                                                      Field("made_up_macs", &SnapshotInfo::made_up_macs),
                                                      Field("disks", &SnapshotInfo::disks),
                                                      Field("kernel", &SnapshotInfo::kernel),
                                                      Field("initramfs", &SnapshotInfo::initramfs)};

}  // namespace internal

namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "snapshot.json";
constexpr uint64_t kLargestFile = uint64_t{4} << 20;

}  // namespace

SnapshotInfo ReadSnapshot(const fs::path& directory) {
  fs::path file = directory / kFile;
  std::error_code error;
  if (!fs::exists(file, error)) {
    throw BadSpec({.summary = fmt::format("{}: holds no complete snapshot: there is no {}", directory.string(), kFile),
                   .next_step = "give the directory that Snapshot made"});
  }
  auto info =
      internal::ReadJson<SnapshotInfo>(internal::SpecPath(file.string()), internal::ReadWholeFile(file, kLargestFile));
  info.directory = fs::absolute(directory);
  auto require = [&](const std::string& what, const std::string& name) {
    // A name, not a path: nothing outside of the directory belongs to it.
    if (name.find('/') == std::string::npos && fs::is_regular_file(info.directory / name, error)) return;
    throw BadSpec({.summary = fmt::format("{}: {}: there is no file \"{}\"", file.string(), what, name)});
  };
  for (const SnapshotDisk& disk : info.disks) require(fmt::format("disk '{}'", disk.id), disk.file);
  if (!info.kernel.empty()) require("kernel", info.kernel);
  if (!info.initramfs.empty()) require("initramfs", info.initramfs);
  return info;
}

void WriteSnapshot(const SnapshotInfo& info) {
  nlohmann::ordered_json disks = nlohmann::ordered_json::array();
  for (const SnapshotDisk& disk : info.disks) {
    disks.push_back({{"id", disk.id}, {"file", disk.file}, {"format", internal::Name(disk.format)}});
  }
  nlohmann::ordered_json json = {{"driver", info.driver},
                                 {"vmm", info.vmm},
                                 {"machine", info.machine},
                                 {"accelerator", info.accelerator},
                                 {"shared_memory", info.shared_memory},
                                 {"spec", nlohmann::ordered_json::parse(ToJson(info.spec))},
                                 {"made_up_macs", info.made_up_macs},
                                 {"disks", disks},
                                 {"kernel", info.kernel},
                                 {"initramfs", info.initramfs}};
  fs::path file = info.directory / kFile;
  fs::path unfinished = file.native() + ".new";
  internal::WriteWholeFile(unfinished, json.dump(2) + "\n");
  if (rename(unfinished.c_str(), file.c_str()) != 0) internal::ThrowFileError("write", file, errno);
}

MachineSpec SpecOfCopy(const SnapshotInfo& info, std::string_view name) {
  MachineSpec spec = info.spec;
  if (!name.empty()) spec.name = name;
  for (Disk& disk : spec.disks) {
    auto saved = std::find_if(info.disks.begin(), info.disks.end(), [&](const auto& d) { return d.id == disk.id; });
    if (saved == info.disks.end()) continue;
    disk.path = info.directory / saved->file;
    disk.format = saved->format;
    disk.size = Bytes();
    disk.clone = true;
  }
  if (!info.kernel.empty()) spec.boot.kernel = info.directory / info.kernel;
  if (!info.initramfs.empty()) spec.boot.initramfs = info.directory / info.initramfs;
  for (Nic& nic : spec.nics) {
    bool made_up = std::find(info.made_up_macs.begin(), info.made_up_macs.end(), nic.id) != info.made_up_macs.end();
    if (made_up) nic.mac.clear();
  }
  return spec;
}

}  // namespace mayfly
