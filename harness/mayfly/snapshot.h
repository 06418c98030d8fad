// A machine that was saved to a directory: what Machine::Snapshot leaves and Machine::Restore takes.
//
//   vm.machine().Snapshot("saved");
//   SnapshotInfo info = ReadSnapshot("saved");
//   std::unique_ptr<Machine> copy = FindDriver(info.driver).Create(SpecOfCopy(info, "kv-2"), Sandbox::Create("kv-2"));
//   copy->Restore("saved");                                     // goes on where the first was saved
//
// The directory holds snapshot.json (this struct), the machine's disks as they were, the state of its devices and its
// memory, in the backend's own form. Nothing in it is changed by restoring, so any number of copies may be made. It is
// complete once snapshot.json is there: that is written last. What the machine only reads (its kernel, read-only disks)
// stays where it is, unless the snapshot was made whole (Vm::Freeze): then copies of that are in the directory too.
#pragma once

#include <mayfly/spec.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {

// What the guest had written to its console, a file of the directory.
inline constexpr const char* kSnapshotConsole = "console.log";

// A disk whose contents are in the directory: each that the machine writes to; read-only ones when it was made whole.
struct SnapshotDisk {
  std::string id{};
  std::string file{};  // name in the directory
  DiskFormat format = DiskFormat::kRaw;
  friend bool operator==(const SnapshotDisk&, const SnapshotDisk&) = default;
};

struct SnapshotInfo {
  std::string driver{};        // "qemu"
  std::string vmm{};           // "QEMU 7.2.22": no other version restores it
  std::string machine{};       // "microvm"
  std::string accelerator{};   // "tcg": nor does another one
  bool shared_memory = false;  // memory lies in files that copies map, so that they share what they do not change
  MachineSpec spec{};          // complete: image resolved, each NIC with its MAC
  std::vector<std::string> made_up_macs{};  // ids of NICs whose address nobody asked for
  std::vector<SnapshotDisk> disks{};
  std::string kernel{};               // file in the directory; empty: the one that the spec names
  std::string initramfs{};            // the same
  std::filesystem::path directory{};  // where it was read from; not in the file
};

// Throws BadSpec when there is no complete snapshot (names the file and what is wrong with it).
SnapshotInfo ReadSnapshot(const std::filesystem::path& directory);
// Writes snapshot.json. Throws HostLacks.
void WriteSnapshot(const SnapshotInfo& info);

// The spec of a copy: its disks are clones of those of the snapshot, NICs whose address nobody asked for
// get one of their own. An empty
// `name`: that of the snapshot.
MachineSpec SpecOfCopy(const SnapshotInfo& info, std::string_view name);

}  // namespace mayfly
