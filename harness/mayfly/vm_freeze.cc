// Frozen VMs: snapshots that hold all that the machine needs, to be looked into later or elsewhere.
#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/vm_impl.h>
#include <mayfly/snapshot.h>

#include <algorithm>
#include <system_error>

namespace mayfly {
namespace {

namespace fs = std::filesystem;

bool IsSaved(const SnapshotInfo& info, const Disk& disk) {
  return std::any_of(info.disks.begin(), info.disks.end(),
                     [&](const SnapshotDisk& saved) { return saved.id == disk.id; });
}

// Brings into the snapshot's directory what it refers to.
void MakeWhole(const fs::path& directory) {
  SnapshotInfo info = ReadSnapshot(directory);
  for (const SnapshotDisk& disk : info.disks) {
    if (disk.format == DiskFormat::kQcow2) internal::MakeDiskFileWhole(disk.id, directory / disk.file);
  }
  for (const Disk& disk : info.spec.disks) {
    if (IsSaved(info, disk)) continue;
    SnapshotDisk saved{.id = disk.id, .file = "disk-" + disk.id, .format = disk.format};
    internal::CopyDiskFile(disk.path, directory / saved.file);
    if (disk.format == DiskFormat::kQcow2) internal::MakeDiskFileWhole(disk.id, directory / saved.file);
    info.disks.push_back(saved);
  }
  info.kernel = "kernel";
  internal::CopyDiskFile(info.spec.boot.kernel, directory / info.kernel);
  if (!info.spec.boot.initramfs.empty()) {
    info.initramfs = "initramfs";
    internal::CopyDiskFile(info.spec.boot.initramfs, directory / info.initramfs);
  }
  WriteSnapshot(info);
  internal::WriteManifest(directory, {{"name", info.spec.name}}, internal::Flush::kNo);
}

}  // namespace

void Vm::Impl::Freeze(const fs::path& directory) {
  if (fs::exists(directory)) {
    throw BadSpec({.summary = fmt::format("cannot freeze {} to {}: it is there already", Title(), directory.string()),
                   .next_step = "give a directory that does not exist"});
  }
  // Under its name it is complete.
  struct Unfinished {
    ~Unfinished() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
    fs::path path;
  } unfinished{directory.native() + ".unfinished"};
  fs::remove_all(unfinished.path);
  Save(unfinished.path);
  MakeWhole(unfinished.path);
  fs::rename(unfinished.path, directory);
}

void Vm::Freeze(const fs::path& directory) { impl_->Freeze(directory); }

Vm Vm::Resume(const fs::path& directory) {
  if (!fs::exists(directory / "snapshot.json") || !fs::exists(directory / internal::kManifest)) {
    throw BadSpec({.summary = fmt::format("{} holds no frozen VM", directory.string()),
                   .next_step = "give a directory that Vm::Freeze made, such as the one that a failed test names"});
  }
  SnapshotInfo info = ReadSnapshot(directory);
  if (internal::CheckedEntry checked = internal::CheckEntry(directory); !checked.damage.empty()) {
    throw BadSpec({.summary = fmt::format("{} is damaged: {}", directory.string(), checked.damage),
                   .next_step = "copy it again from where it was frozen, or run the test again"});
  }
  MachineSpec spec = SpecOfCopy(info, "");
  spec.nics = info.spec.nics;  // it is the same VM: its addresses stay
  auto impl = std::make_unique<Impl>(FindDriver(info.driver).Create(spec, internal::SandboxFor(spec)), spec);
  impl->GoOnFrom(directory, {});
  return Vm(std::move(impl));
}

}  // namespace mayfly
