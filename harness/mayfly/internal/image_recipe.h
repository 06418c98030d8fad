// Guest images as data: the JSON files of share/mayfly/images.
//
//   <name>.json          an image (ImageRecipe)
//   kernels/<name>.json  a kernel and its modules (KernelRecipe), named by images
//   trees/<name>.json    files of a guest (TreeRecipe), named by images
//
//   RecipeBook book(DataDirectory() / "images");
//   ImageRecipe tiny = book.Image("tiny");
//   KernelRecipe kernel = book.Kernel(tiny.kernel);
//
// Files are read strictly: a fault throws BadSpec that names file, field, value and what is allowed.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/internal/spec_fields.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

struct KernelRecipe {
  std::string package{};                    // a Debian kernel package or its meta package
  std::vector<std::string> boot_modules{};  // loaded by the agent before anything else, in this order
  bool packaged = false;                    // the compressed kernel is kept too, for firmware that starts it
  // Kept for modprobe, and for the kernel's own requests. vmw_vsock_virtio_transport among them lets the agent reach
  // its host over vsock (mayfly.vsock=PORT on the kernel command line): it is in every initramfs then.
  std::vector<std::string> modules{};
  std::vector<std::string> command_line{};  // words
  std::string source{};                     // the JSON text; part of identities
};

struct PackageFiles {
  std::string package{};
  std::vector<std::string> files{};  // paths in the package; they keep their place, mode and owner
};

struct TextFile {
  std::string path{};
  std::vector<std::string> lines{};
  std::string mode{};  // octal; empty: 0644
};

struct TreeDirectory {
  std::string path{};
  std::string mode{};  // octal; empty: 0755
};

// Symbolic links in one directory to one target.
struct TreeLinks {
  std::string directory{};
  std::string target{};
  std::vector<std::string> names{};
};

struct TreeRecipe {
  std::vector<PackageFiles> packages{};
  std::vector<TextFile> files{};
  std::vector<TreeDirectory> directories{};
  std::vector<TreeLinks> links{};
  std::string source{};
};

struct InitramfsRecipe {
  std::vector<std::string> trees{};
  std::vector<std::string> modules{};  // besides the kernel's boot modules: names, or "*" for all that it keeps
};

// A Debian system made by mmdebstrap.
struct BootstrapRecipe {
  std::string suite{};
  std::string variant{};
  std::vector<std::string> packages{};
  std::vector<std::string> without{};   // paths that packages shall not install, as dpkg's path-exclude
  std::vector<std::string> commands{};  // run by the new system's shell, as its root
};

struct RootDiskRecipe {
  Bytes size{};
  std::vector<std::string> trees{};
  std::vector<std::string> modules{};  // as in InitramfsRecipe
  std::string module_directory{};      // empty: "lib/modules"
  std::optional<BootstrapRecipe> bootstrap{};
};

struct ImageRecipe {
  std::string description{};
  std::string kernel{};
  InitramfsRecipe initramfs{};
  std::optional<RootDiskRecipe> root_disk{};
  std::vector<std::string> command_line{};  // words after the kernel's own
  std::string source{};
};

template <>
inline constexpr std::tuple kSpecFields<KernelRecipe>{
    Field("package", &KernelRecipe::package), Field("boot_modules", &KernelRecipe::boot_modules),
    Field("packaged", &KernelRecipe::packaged), Field("modules", &KernelRecipe::modules),
    Field("command_line", &KernelRecipe::command_line)};
template <>
inline constexpr std::tuple kSpecFields<PackageFiles>{Field("package", &PackageFiles::package),
                                                      Field("files", &PackageFiles::files)};
template <>
inline constexpr std::tuple kSpecFields<TextFile>{Field("path", &TextFile::path), Field("lines", &TextFile::lines),
                                                  Field("mode", &TextFile::mode)};
template <>
inline constexpr std::tuple kSpecFields<TreeDirectory>{Field("path", &TreeDirectory::path),
                                                       Field("mode", &TreeDirectory::mode)};
template <>
inline constexpr std::tuple kSpecFields<TreeLinks>{
    Field("directory", &TreeLinks::directory), Field("target", &TreeLinks::target), Field("names", &TreeLinks::names)};
template <>
inline constexpr std::tuple kSpecFields<TreeRecipe>{
    Field("packages", &TreeRecipe::packages), Field("files", &TreeRecipe::files),
    Field("directories", &TreeRecipe::directories), Field("links", &TreeRecipe::links)};
template <>
inline constexpr std::tuple kSpecFields<InitramfsRecipe>{Field("trees", &InitramfsRecipe::trees),
                                                         Field("modules", &InitramfsRecipe::modules)};
template <>
inline constexpr std::tuple kSpecFields<BootstrapRecipe>{
    Field("suite", &BootstrapRecipe::suite), Field("variant", &BootstrapRecipe::variant),
    Field("packages", &BootstrapRecipe::packages), Field("without", &BootstrapRecipe::without),
    Field("commands", &BootstrapRecipe::commands)};
template <>
inline constexpr std::tuple kSpecFields<RootDiskRecipe>{
    Field("size", &RootDiskRecipe::size), Field("trees", &RootDiskRecipe::trees),
    Field("modules", &RootDiskRecipe::modules), Field("bootstrap", &RootDiskRecipe::bootstrap)};
template <>
inline constexpr std::tuple kSpecFields<ImageRecipe>{
    Field("description", &ImageRecipe::description), Field("kernel", &ImageRecipe::kernel),
    Field("initramfs", &ImageRecipe::initramfs), Field("root_disk", &ImageRecipe::root_disk),
    Field("command_line", &ImageRecipe::command_line)};

class RecipeBook {
 public:
  explicit RecipeBook(std::filesystem::path directory) : directory_(std::move(directory)) {}

  std::vector<std::string> ImageNames() const;  // sorted

  // Each throws BadSpec for a name that is not there (with the nearest one) and for a faulty file.
  ImageRecipe Image(std::string_view name) const;
  KernelRecipe Kernel(std::string_view name) const;
  TreeRecipe Tree(std::string_view name) const;

  // Where those are.
  std::filesystem::path FileOfImage(std::string_view name) const;
  std::filesystem::path FileOfKernel(std::string_view name) const;
  std::filesystem::path FileOfTree(std::string_view name) const;

 private:
  std::filesystem::path directory_;
};

// "0755" and "4755" as a number; `otherwise` when it is empty. Throws BadSpec (`where` begins the message).
uint32_t ModeFromText(const std::string& text, uint32_t otherwise, std::string_view where);

}  // namespace mayfly::internal
