// Guest images: a kernel, an initramfs and, for some, a root disk, built from recipes and kept in a cache.
//
//   Image image = ImageStore().Find("tiny");          // built when it is not in the cache yet
//   MachineSpec resolved = ResolveImage(spec);        // boot and disks of spec.image filled in
//
// Recipes are JSON files (share/mayfly/images/*.json). An image's identity is the hash of all that goes into it:
// recipe, package versions, agent; the same input gives the same bytes. The cache is $MAYFLY_CACHE_DIR, else
// $XDG_CACHE_HOME/mayfly, else ~/.cache/mayfly: one directory for each identity, moved into place when complete and
// checked against its checksums when used, so that two builds at once, a killed one or a corrupted file do no harm.
//
// Thread- and process-safe.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/spec.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {

struct Image {
  std::string name{};
  std::string hash{};  // identity, 32 hexadecimal digits
  std::filesystem::path kernel{};
  std::filesystem::path packaged_kernel{};  // the same, compressed, which firmware can start; empty: not kept
  std::filesystem::path initramfs{};        // empty: none
  std::filesystem::path root_disk{};        // raw; empty: none
  std::string command_line{};               // what the image needs on the kernel's command line, without the console
  bool agent = true;
};

struct ImageInfo {
  std::string name{};
  std::string description{};
  std::string hash{};
  bool built = false;  // in the cache
  Bytes size{};        // of all its files when built
};

// Called with one line for people when a step begins: "unpack linux-image-6.1.0-56-cloud-amd64".
using Progress = std::function<void(std::string_view step)>;

class ImageStore {
 public:
  // Throws BadSpec when the cache directory is not writable (names the variable and the path).
  ImageStore();

  // All recipes. Throws BadSpec that names the file and field when one is broken.
  std::vector<ImageInfo> List() const;

  // The image of that name, from the cache, else built. Throws BadSpec for an unknown name (with the nearest one),
  // HostLacks for what the build lacks (program, package, space).
  Image Find(std::string_view name, const Progress& progress = {});

  // Builds it even if it is in the cache.
  Image Build(std::string_view name, const Progress& progress = {});

  const std::filesystem::path& directory() const { return directory_; }

 private:
  std::filesystem::path directory_;
};

// `spec` with its image's kernel, initramfs, command line and root disk (in front of its disks, as a private clone with
// id "root") filled in; unchanged when spec.image is empty. Kernel and initramfs that the spec gives itself are kept.
// With firmware, and beside a TPM, the kernel is the image's packaged one. Throws BadSpec when firmware is asked for
// and the image has none.
MachineSpec ResolveImage(MachineSpec spec, const Progress& progress = {});

// --- Bring your own
// ----------------------------------------------------------------------------------------------------
//
//   MachineSpec spec{.image = "", .boot = {.kernel = "bzImage", .initramfs = "my.cpio"}, .agent = false};
//
//   BuildInitramfsFromDirectory("rootfs", "mine.cpio", tiny.initramfs);   // tiny with files of yours added
//   BuildDiskFromDirectory("rootfs", 256_MiB, "root.img");                // a disk with id "root" for tiny-disk's
//   kernel
//
// Both give everything to root, need no privileges, and give the same bytes for the same tree.

// Throws BadSpec unless the file is a kernel that can be started directly: a bzImage, an x86 ELF file with a PVH entry,
// or an arm64 Image.
void CheckKernel(const std::filesystem::path& kernel);

// Writes an initramfs of a directory; files of `base`, an initramfs, come before and are replaced where both have them.
// Throws BadSpec when `directory` is none, HostLacks when something cannot be read or written.
void BuildInitramfsFromDirectory(const std::filesystem::path& directory, const std::filesystem::path& out,
                                 const std::filesystem::path& base = {});

// Writes an ext4 file system of `size` with a directory's contents into a sparse file. Throws the same, and BadSpec
// when it is too small.
void BuildDiskFromDirectory(const std::filesystem::path& directory, Bytes size, const std::filesystem::path& out);

// Where recipes and the agent are: $MAYFLY_DATA_DIR, else ../share/mayfly of the running program, else the installed or
// built place. Throws HostLacks when there is none.
std::filesystem::path DataDirectory();

}  // namespace mayfly
