#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/image_builder.h>
#include <mayfly/internal/kernel_image.h>
#include <mayfly/internal/spec_fault.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::ImageBuilder;
using internal::Reuse;

// The value of an environment variable; empty when it is not set.
std::string Variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets the environment
  return value == nullptr ? "" : value;
}

struct CachePlace {
  fs::path directory;
  std::string variable;  // that moves it
};

CachePlace FindCache() {
  if (std::string own = Variable("MAYFLY_CACHE_DIR"); !own.empty()) return {fs::absolute(own), "MAYFLY_CACHE_DIR"};
  if (std::string xdg = Variable("XDG_CACHE_HOME"); !xdg.empty()) return {fs::path(xdg) / "mayfly", "XDG_CACHE_HOME"};
  if (std::string home = Variable("HOME"); !home.empty()) return {fs::path(home) / ".cache/mayfly", "HOME"};
  throw BadSpec({.summary = "there is no place for the cache of images: neither MAYFLY_CACHE_DIR nor HOME is set",
                 .notes = {},
                 .next_step = "set MAYFLY_CACHE_DIR to a directory of yours"});
}

// Firmware starts compressed kernels only. And in a PC with a TPM QEMU 7.2 loads the initramfs of an uncompressed one
// over the ACPI tables, which the log of the TPM has moved.
fs::path KernelFor(const MachineSpec& spec, const Image& image) {
  if (spec.boot.firmware.empty())
    return spec.tpm && !image.packaged_kernel.empty() ? image.packaged_kernel : image.kernel;
  if (!image.packaged_kernel.empty()) return image.packaged_kernel;
  internal::SpecPath("spec")
      .Key("boot")
      .Key("firmware")
      .Refuse(fmt::format("image \"{}\" keeps no kernel that firmware can start", spec.image),
              "image \"tiny-generic\", or image \"\" and a disk that the firmware boots from");
}

}  // namespace

ImageStore::ImageStore() {
  CachePlace place = FindCache();
  directory_ = place.directory / "images";
  std::error_code error;
  fs::create_directories(directory_, error);
  if (!error && access(directory_.c_str(), W_OK | X_OK) != 0) error = {errno, std::generic_category()};
  if (!error) return;
  throw BadSpec(
      {.summary = fmt::format("the cache of images {} is not writable: {}", directory_.native(), error.message()),
       .notes = {fmt::format("its place comes from {}", place.variable)},
       .next_step = "set MAYFLY_CACHE_DIR to a directory of yours"});
}

std::vector<ImageInfo> ImageStore::List() const {
  ImageBuilder builder(directory_, DataDirectory());
  std::vector<ImageInfo> all;
  for (const std::string& name : builder.recipes().ImageNames()) {
    ImageInfo info{.name = name, .description = builder.recipes().Image(name).description};
    if (auto found = builder.FindBuilt(name)) {
      info.hash = found->identity;
      info.built = true;
      info.size = found->size;
    }
    all.push_back(std::move(info));
  }
  return all;
}

Image ImageStore::Find(std::string_view name, const Progress& progress) {
  return ImageBuilder(directory_, DataDirectory()).Get(name, Reuse::kIfBuilt, progress);
}

Image ImageStore::Build(std::string_view name, const Progress& progress) {
  return ImageBuilder(directory_, DataDirectory()).Get(name, Reuse::kNever, progress);
}

MachineSpec ResolveImage(MachineSpec spec, const Progress& progress) {
  if (!spec.boot.kernel.empty()) CheckKernel(spec.boot.kernel);
  if (spec.image.empty()) return spec;
  Image image = ImageStore().Find(spec.image, progress);
  if (spec.boot.kernel.empty()) spec.boot.kernel = KernelFor(spec, image);
  if (spec.boot.initramfs.empty()) spec.boot.initramfs = image.initramfs;
  std::string added = std::move(spec.boot.command_line);
  spec.boot.command_line = image.command_line;
  if (!added.empty()) spec.boot.command_line += " " + added;
  if (image.root_disk.empty()) return spec;
  for (size_t i = 0; i < spec.disks.size(); ++i) {
    if (spec.disks[i].id != "root") continue;
    internal::SpecPath("spec").Key("disks").Index(i).Key("id").Refuse(
        fmt::format("\"root\" is the root disk of image \"{}\"", spec.image), "another id, or an image without a disk");
  }
  spec.disks.insert(spec.disks.begin(), {.id = "root", .path = image.root_disk});
  return spec;
}

fs::path DataDirectory() {
  std::string own = Variable("MAYFLY_DATA_DIR");
  std::vector<fs::path> places = {MAYFLY_BUILD_DATA_DIRECTORY, MAYFLY_INSTALL_DATA_DIRECTORY};
  // An installed mayfly command that was moved with its prefix has its data beside it.
  std::error_code unknown;
  fs::path program = fs::read_symlink("/proc/self/exe", unknown);
  if (!unknown) places.insert(places.begin(), program.parent_path().parent_path() / "share/mayfly");
  if (!own.empty()) places = {own};
  for (const fs::path& place : places) {
    std::error_code error;
    if (fs::is_directory(place / "images", error)) return place;
  }
  std::vector<std::string> notes;
  for (const fs::path& place : places) notes.push_back(fmt::format("looked for {}", (place / "images").native()));
  throw HostLacks({.summary = "mayfly's data (image recipes and the guest agent) are not there",
                   .notes = std::move(notes),
                   .next_step = "install mayfly, or set MAYFLY_DATA_DIR to its share/mayfly"});
}

}  // namespace mayfly
