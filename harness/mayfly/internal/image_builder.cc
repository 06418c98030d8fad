#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/archive.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/debian_bootstrap.h>
#include <mayfly/internal/debian_packages.h>
#include <mayfly/internal/ext4_image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/image_builder.h>
#include <mayfly/internal/kernel_image.h>
#include <mayfly/internal/kernel_modules.h>
#include <mayfly/internal/known_image.h>
#include <mayfly/internal/spec_fault.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <utility>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

// Part of every identity: raise it when the same recipe shall give other bytes.
constexpr const char* kBuilderVersion = "mayfly image 1";

constexpr uint64_t kLargestFile = uint64_t{512} << 20;  // of one that is kept in memory
constexpr const char* kKernelFile = "vmlinux";
constexpr const char* kPackagedKernelFile = "vmlinuz";
constexpr const char* kBootModulesFile = "boot_modules";
constexpr const char* kInitramfsFile = "initramfs.cpio";
constexpr const char* kRootDiskFile = "root.img";
constexpr const char* kAgentFile = "mayfly-agent";  // of the data directory
constexpr const char* kModuleRoot = "lib/modules";
// Lists of modules that the agent loads; their paths are relative to their directory.
constexpr const char* kAgentModuleList = "lib/mayfly/modules";
constexpr const char* kAgentVsockModuleList = "lib/mayfly/vsock-modules";
constexpr const char* kVsockModule = "vmw_vsock_virtio_transport";

void Tell(const Progress& progress, const std::string& line) {
  if (progress) progress(line);
}

// --- Kernel: the entry has vmlinux, vmlinuz (where the recipe keeps it), boot_modules (a list) and
// lib/modules/RELEASE/…
// -----------------------------------

// What of a kernel package is used, in memory.
struct KernelFiles {
  std::string kernel{};   // as packaged
  std::string release{};  // "6.1.0-56-cloud-amd64"
  std::string builtin{};
  std::map<std::string, std::string> modules{};  // by path below lib/modules/RELEASE
};

KernelFiles ReadKernelPackage(const fs::path& package) {
  KernelFiles files;
  ReadDebPackage(package, [&](const FileEntry& entry, FileContent& content) {
    std::string_view path = entry.path;
    if (entry.kind != FileKind::kFile) return;
    auto bytes = [&] { return ReadAll(content, fmt::format("{}: {}", package.native(), path), kLargestFile); };
    if (path.starts_with("boot/vmlinuz-")) {
      files.kernel = bytes();
      files.release = path.substr(std::string_view("boot/vmlinuz-").size());
    }
    if (path.starts_with("usr/")) path.remove_prefix(4);
    if (!path.starts_with("lib/modules/")) return;
    path.remove_prefix(std::string_view("lib/modules/").size());
    path.remove_prefix(std::min(path.find('/') + 1, path.size()));
    if (path == "modules.builtin") files.builtin = bytes();
    size_t suffix = path.rfind(".ko");
    if (suffix == std::string_view::npos) return;
    // Without compression: the guest's kernel need not know it, and the initramfs is stored as it is.
    std::string module(path.substr(0, suffix + 3));
    files.modules[module] = path.size() == module.size() ? bytes() : Decompress(bytes(), path, kLargestFile);
  });
  if (files.kernel.empty()) {
    throw BadSpec(
        {.summary = fmt::format("{}: has no kernel (boot/vmlinuz-…)", package.native()), .notes = {}, .next_step = {}});
  }
  return files;
}

void BuildKernel(const fs::path& package, const KernelRecipe& recipe, const std::string& origin, const fs::path& out) {
  KernelFiles files = ReadKernelPackage(package);
  WriteWholeFile(out / kKernelFile, ExtractKernel(files.kernel, package.native()));
  if (recipe.packaged) WriteWholeFile(out / kPackagedKernelFile, files.kernel);
  KernelModules modules;
  modules.AddBuiltin(files.builtin);
  for (const auto& [path, bytes] : files.modules) modules.Add(path, bytes);
  std::vector<std::string> wanted = recipe.boot_modules;
  wanted.insert(wanted.end(), recipe.modules.begin(), recipe.modules.end());
  for (const std::string& path : modules.LoadOrder(wanted, origin)) {
    fs::path file = out / kModuleRoot / files.release / path;
    fs::create_directories(file.parent_path());
    WriteWholeFile(file, files.modules.at(path));
  }
  std::string boot;
  for (const std::string& path : modules.LoadOrder(recipe.boot_modules, origin)) boot += path + "\n";
  WriteWholeFile(out / kBootModulesFile, boot);
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size();) {
    size_t end = std::min(text.find('\n', start), text.size());
    if (end > start) lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

// The modules that a kernel's entry keeps.
struct KeptModules {
  explicit KeptModules(const fs::path& kernel) : directory(fs::directory_iterator(kernel / kModuleRoot)->path()) {
    for (const fs::directory_entry& file : fs::recursive_directory_iterator(directory)) {
      if (!file.is_regular_file()) continue;
      std::string path = file.path().lexically_relative(directory);
      files[path] = ReadWholeFile(file.path(), kLargestFile);
      modules.Add(path, files[path]);
      names.push_back(ModuleName(path));
    }
    boot = Lines(ReadWholeFile(kernel / kBootModulesFile, kLargestFile));
  }
  std::string release() const { return directory.filename(); }

  fs::path directory;
  KernelModules modules;
  std::map<std::string, std::string> files{};  // by path
  std::vector<std::string> names{};
  std::vector<std::string> boot{};  // paths, as they are loaded
};

// Adds the boot modules, the wanted ones and what they need below `root` ("lib/modules"), with what modprobe reads.
void AddModules(FileTree& tree, const KeptModules& kept, const std::vector<std::string>& wanted,
                const std::string& root, const std::string& origin) {
  std::string target = root + "/" + kept.release();
  bool all = std::find(wanted.begin(), wanted.end(), "*") != wanted.end();
  std::vector<std::string> names = all ? kept.names : wanted;
  for (const std::string& path : kept.boot) names.push_back(ModuleName(path));
  std::vector<std::string> paths = kept.modules.LoadOrder(names, origin);
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) tree.AddFile(fmt::format("{}/{}", target, path), kept.files.at(path));
  tree.AddFile(target + "/modules.dep", kept.modules.DependencyFile(paths));
  tree.AddFile(target + "/modules.alias", kept.modules.AliasFile(paths));
}

void AddModuleList(FileTree& tree, const KeptModules& kept, const char* file, const std::vector<std::string>& paths) {
  std::string list;
  for (const std::string& path : paths) list += fmt::format("../modules/{}/{}\n", kept.release(), path);
  tree.AddFile(file, std::move(list));
}

// An initramfs's modules, and which of them the agent loads: at first, and where vsock is its way to the host.
void AddAgentsModules(FileTree& tree, const KeptModules& kept, std::vector<std::string> wanted,
                      const std::string& origin) {
  AddModuleList(tree, kept, kAgentModuleList, kept.boot);
  if (std::find(kept.names.begin(), kept.names.end(), kVsockModule) != kept.names.end()) {
    std::vector<std::string> paths = kept.modules.LoadOrder({kVsockModule}, origin);
    std::erase_if(paths, [&](const std::string& path) {
      return std::find(kept.boot.begin(), kept.boot.end(), path) != kept.boot.end();
    });
    AddModuleList(tree, kept, kAgentVsockModuleList, paths);
    wanted.emplace_back(kVsockModule);
  }
  AddModules(tree, kept, wanted, kModuleRoot, origin);
}

// --- Files
// ------------------------------------------------------------------------------------------------------------

void ExtractFiles(const fs::path& package, const PackageFiles& wanted, const fs::path& out) {
  std::set<std::string> missing(wanted.files.begin(), wanted.files.end());
  ReadDebPackage(package, [&](const FileEntry& entry, FileContent& content) {
    if (entry.kind != FileKind::kFile || missing.erase(entry.path) == 0) return;
    fs::path file = out / entry.path;
    fs::create_directories(file.parent_path());
    WriteWholeFile(file, ReadAll(content, entry.path, kLargestFile));
    if (chmod(file.c_str(), entry.mode) != 0) ThrowFileError("write", file, errno);
  });
  if (missing.empty()) return;
  throw BadSpec({.summary = fmt::format("package {} has no file {}", wanted.package, *missing.begin()),
                 .notes = {},
                 .next_step = "name files by their path in the package, without a leading slash"});
}

void AddRecipe(FileTree& tree, const TreeRecipe& recipe, const std::string& origin) {
  for (const TreeDirectory& row : recipe.directories) {
    tree.AddDirectory(row.path, ModeFromText(row.mode, 0755, fmt::format("{}: {}", origin, row.path)));
  }
  for (const TextFile& row : recipe.files) {
    std::string text;
    for (const std::string& line : row.lines) text += line + "\n";
    tree.AddFile(row.path, std::move(text), ModeFromText(row.mode, 0644, fmt::format("{}: {}", origin, row.path)));
  }
  for (const TreeLinks& row : recipe.links) {
    for (const std::string& name : row.names) tree.AddLink(row.directory + "/" + name, row.target);
  }
}

// The identities of the files of a tree that lie in the cache.
void AddSources(const FileTree& tree, std::vector<std::string>& parts) {
  for (const auto& [path, node] : tree.nodes()) {
    if (!node.source.empty()) parts.push_back(ContentHash().Add(path).AddFile(node.source).Digest());
  }
}

// The same bytes under another name, without a copy where the file system can.
void LinkOrCopy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (error) fs::copy_file(from, to);
}

std::string JoinWords(const std::vector<std::string>& first, const std::vector<std::string>& second) {
  return fmt::format("{}{}{}", fmt::join(first, " "), first.empty() || second.empty() ? "" : " ",
                     fmt::join(second, " "));
}

}  // namespace

ImageBuilder::ImageBuilder(const fs::path& cache, fs::path data)
    : cache_(cache), index_(cache / "index"), data_(std::move(data)), recipes_(data_ / "images") {}

fs::path ImageBuilder::Kernel(const std::string& name, Reuse reuse, const Progress& progress) const {
  KernelRecipe recipe = recipes_.Kernel(name);
  DebianPackage package;
  auto look_up = [&] {
    Tell(progress, "look up " + recipe.package);
    package = FindPackage(recipe.package);
    return std::vector<std::string>{package.ToString()};
  };
  auto build = [&](const BuildPlace& place) {
    Tell(progress, fmt::format("download {} {} ({})", package.name, package.version, ForPeople(package.size)));
    fs::path file = Download(package, place.scratch);
    Tell(progress, "unpack " + package.name);
    BuildKernel(file, recipe, fmt::format("kernel recipe \"{}\"", name), place.entry);
  };
  return cache_.Get({.name = "kernel-" + name,
                     .key = ContentHash().Add(kBuilderVersion).Add(recipe.source).Digest(),
                     .inputs = look_up,
                     .build = build},
                    reuse, progress);
}

fs::path ImageBuilder::Package(const PackageFiles& wanted, Reuse reuse, const Progress& progress) const {
  DebianPackage package;
  auto look_up = [&] {
    Tell(progress, "look up " + wanted.package);
    package = FindPackage(wanted.package);
    return std::vector<std::string>{package.ToString()};
  };
  auto build = [&](const BuildPlace& place) {
    Tell(progress, fmt::format("download {} {} ({})", package.name, package.version, ForPeople(package.size)));
    ExtractFiles(Download(package, place.scratch), wanted, place.entry);
  };
  ContentHash key;
  key.Add(kBuilderVersion).Add(wanted.package);
  for (const std::string& file : wanted.files) key.Add(file);
  return cache_.Get({.name = "package-" + wanted.package, .key = key.Digest(), .inputs = look_up, .build = build},
                    reuse, progress);
}

fs::path ImageBuilder::RootDisk(const std::string& image, const ImageRecipe& recipe, const fs::path& kernel,
                                Reuse reuse, const Progress& progress) const {
  const RootDiskRecipe& disk = *recipe.root_disk;
  FileTree tree;
  auto get_parts = [&] {
    tree = Tree(disk.trees, reuse, progress);
    std::vector<std::string> parts = {kernel.filename().native(), Ext4Version()};
    AddSources(tree, parts);
    return parts;
  };
  auto build = [&](const BuildPlace& place) {
    std::string key = ContentHash().Add(image).Add(recipe.source).Digest();
    Ext4Writer writer(place.entry / kRootDiskFile, {.size = disk.size, .identity = key});
    if (disk.bootstrap) {
      Tell(progress, fmt::format("bootstrap Debian {}: some minutes", disk.bootstrap->suite));
      fs::path system = BootstrapDebian(*disk.bootstrap, kernel / kModuleRoot, place.scratch);
      Tell(progress, "write the root disk");
      // What the trees have comes in place of what packages brought.
      ReadArchive(system, [&](const FileEntry& entry, FileContent& content) {
        if (entry.kind == FileKind::kDirectory || !tree.nodes().contains(entry.path)) writer.Add(entry, content);
      });
    } else {
      AddModules(tree, KeptModules(kernel), disk.modules, kModuleRoot, fmt::format("image \"{}\"", image));
    }
    writer.Add(tree);
    writer.Finish();
  };
  ContentHash key;
  key.Add(kBuilderVersion).Add(recipe.source).Add(recipes_.Kernel(recipe.kernel).source).Add(TreeKey(disk.trees));
  return cache_.Get({.name = image + "-disk", .key = key.Digest(), .inputs = get_parts, .build = build}, reuse,
                    progress);
}

std::string ImageBuilder::TreeKey(const std::vector<std::string>& names) const {
  ContentHash hash;
  for (const std::string& name : names) hash.Add(recipes_.Tree(name).source);
  return hash.Digest();
}

FileTree ImageBuilder::Tree(const std::vector<std::string>& names, Reuse reuse, const Progress& progress) const {
  FileTree tree;
  for (const std::string& name : names) {
    TreeRecipe recipe = recipes_.Tree(name);
    for (const PackageFiles& row : recipe.packages) {
      fs::path files = Package(row, reuse, progress);
      for (const std::string& path : row.files) {
        struct stat status{};
        if (stat((files / path).c_str(), &status) != 0) ThrowFileError("read", files / path, errno);
        tree.AddHostFile(path, files / path, status.st_mode & 07777);
      }
    }
    AddRecipe(tree, recipe, fmt::format("file tree \"{}\"", name));
  }
  return tree;
}

std::string ImageBuilder::ImageKey(const ImageRecipe& recipe) const {
  ContentHash hash;
  hash.Add(kBuilderVersion).Add(recipe.source).Add(recipes_.Kernel(recipe.kernel).source);
  hash.Add(TreeKey(recipe.initramfs.trees));
  if (recipe.root_disk) hash.Add(TreeKey(recipe.root_disk->trees));
  return hash.AddFile(data_ / kAgentFile).Digest();
}

std::optional<EntryCache::Found> ImageBuilder::FindBuilt(std::string_view name) const {
  return cache_.Find(std::string(name), ImageKey(recipes_.Image(name)), {});
}

fs::path ImageBuilder::RecordOf(std::string_view name) const {
  return index_ / ContentHash().Add(kBuilderVersion).Add(MAYFLY_VERSION).Add(data_.native()).Add(name).Digest();
}

Image ImageBuilder::Get(std::string_view name, Reuse reuse, const Progress& progress) const {
  fs::path record = RecordOf(name);
  if (reuse == Reuse::kIfBuilt) {
    if (auto known = FindKnownImage(record)) return *known;
  }
  ImageInputs inputs;
  inputs.Add(recipes_.FileOfImage(name));
  ImageRecipe recipe = recipes_.Image(name);
  inputs.Add(recipes_.FileOfKernel(recipe.kernel));
  inputs.Add(data_ / kAgentFile);
  std::vector<std::string> trees = recipe.initramfs.trees;
  if (recipe.root_disk) trees.insert(trees.end(), recipe.root_disk->trees.begin(), recipe.root_disk->trees.end());
  for (const std::string& tree : trees) inputs.Add(recipes_.FileOfTree(tree));
  Image image = GetByRecipe(std::string(name), recipe, reuse, progress);
  RememberImage(record, image, inputs);
  return image;
}

Image ImageBuilder::GetByRecipe(const std::string& name, const ImageRecipe& recipe, Reuse reuse,
                                const Progress& progress) const {
  // A part that is current need not be built again when the image is.
  Reuse part_reuse = reuse == Reuse::kNever ? Reuse::kIfCurrent : reuse;
  KernelRecipe kernel_recipe = recipes_.Kernel(recipe.kernel);
  const bool keeps_packaged = kernel_recipe.packaged;
  fs::path kernel, disk;
  FileTree initramfs;
  auto get_parts = [&] {
    kernel = Kernel(recipe.kernel, part_reuse, progress);
    initramfs = Tree(recipe.initramfs.trees, part_reuse, progress);
    std::vector<std::string> parts = {kernel.filename().native()};
    AddSources(initramfs, parts);
    if (recipe.root_disk) {
      disk = RootDisk(name, recipe, kernel, part_reuse, progress);
      parts.push_back(ContentHash().AddFile(disk / kRootDiskFile).Digest());
    }
    return parts;
  };
  auto build = [&](const BuildPlace& place) {
    AddAgentsModules(initramfs, KeptModules(kernel), recipe.initramfs.modules, fmt::format("image \"{}\"", name));
    initramfs.AddHostFile("init", data_ / kAgentFile, 0755);
    WriteCpio(initramfs, place.entry / kInitramfsFile);
    LinkOrCopy(kernel / kKernelFile, place.entry / kKernelFile);
    if (keeps_packaged) LinkOrCopy(kernel / kPackagedKernelFile, place.entry / kPackagedKernelFile);
    if (recipe.root_disk) LinkOrCopy(disk / kRootDiskFile, place.entry / kRootDiskFile);
  };
  fs::path entry =
      cache_.Get({.name = name, .key = ImageKey(recipe), .inputs = get_parts, .build = build}, reuse, progress);
  return {.name = name,
          .hash = entry.filename().native().substr(name.size() + 1),
          .kernel = entry / kKernelFile,
          .packaged_kernel = keeps_packaged ? entry / kPackagedKernelFile : fs::path(),
          .initramfs = entry / kInitramfsFile,
          .root_disk = recipe.root_disk ? entry / kRootDiskFile : fs::path(),
          .command_line = JoinWords(kernel_recipe.command_line, recipe.command_line),
          .agent = true};
}

}  // namespace mayfly::internal
