#include <mayfly/internal/spec_devices.h>

#include <fmt/format.h>
#include <mayfly/internal/seed_iso.h>

#include <cstdint>
#include <random>

namespace mayfly::internal {
namespace {

constexpr const char* kSeedDisk = "mayfly-seed";

}  // namespace

std::vector<PreparedDisk> PrepareDisks(const MachineSpec& spec, const Sandbox& sandbox) {
  std::vector<PreparedDisk> disks;
  disks.reserve(spec.disks.size() + 1);
  for (const Disk& disk : spec.disks) disks.push_back(PrepareDisk(disk, sandbox.directory()));
  if (spec.seed) {
    std::filesystem::path iso = sandbox.Path("seed.iso");
    WriteSeedIso(*spec.seed, spec.name, iso);
    Disk seed{.id = kSeedDisk, .path = iso.string(), .readonly = true};
    disks.push_back({.disk = seed, .path = iso, .format = DiskFormat::kRaw, .readonly = true});
  }
  return disks;
}

std::filesystem::path ShareSocket(const std::filesystem::path& directory, size_t index) {
  return directory / fmt::format("share{}.sock", index);
}

std::string WhyDevicesAreNotCopied(const MachineSpec& spec) {
  for (const Disk& disk : spec.disks) {
    if (!disk.readonly && !disk.clone && !disk.path.empty()) {
      return fmt::format("disk '{}' writes to {} itself (\"clone\": false), which copies would share", disk.id,
                         disk.path);
    }
  }
  if (!spec.shares.empty()) {
    return fmt::format("share '{}': what the guest has open there is known to its virtiofsd only", spec.shares[0].tag);
  }
  if (!spec.pmem.empty()) return fmt::format("pmem '{}': its file would be shared by copies", spec.pmem[0].id);
  return {};
}

std::string RandomMac() {
  std::random_device random;
  uint32_t high = random();
  uint32_t low = random();
  return fmt::format("02:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", high & 0xff, high >> 8 & 0xff, low & 0xff,
                     low >> 8 & 0xff, low >> 16 & 0xff);
}

}  // namespace mayfly::internal
