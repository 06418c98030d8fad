#include "cli/run_spec.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "cli/arguments.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;

DiskFormat FormatOf(const fs::path& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "QFI\xfb" ? DiskFormat::kQcow2 : DiskFormat::kRaw;
}

std::string Absolute(const std::string& path) { return path.empty() ? path : fs::absolute(path).string(); }

}  // namespace

MachineSpec SpecOf(const SpecFlags& flags) {
  MachineSpec spec;
  if (flags.file) spec = SpecFromJson(ReadTextFile("--spec", *flags.file), *flags.file);
  if (flags.image) spec.image = *flags.image;
  if (flags.cpus) spec.cpus = ReadCount("--cpus", *flags.cpus);
  if (flags.memory) spec.memory = ReadSize("--memory", *flags.memory);
  if (flags.driver) spec.driver = *flags.driver;
  if (flags.kernel) spec.boot.kernel = Absolute(*flags.kernel);
  if (flags.initramfs) spec.boot.initramfs = Absolute(*flags.initramfs);
  if (flags.append) {
    std::string& line = spec.boot.command_line;
    line += (line.empty() ? "" : " ") + *flags.append;
  }
  for (size_t i = 0; i < flags.disks.size(); ++i) {
    spec.disks.push_back(
        {.id = fmt::format("disk{}", i), .path = Absolute(flags.disks[i]), .format = FormatOf(flags.disks[i])});
  }
  Validate(spec, flags.file ? *flags.file : "run");
  return spec;
}

}  // namespace mayfly::cli
