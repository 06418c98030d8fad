// The modules of a kernel: what each needs, in which order they load, and the files by which modprobe finds them.
//
//   KernelModules modules;
//   modules.Add("kernel/drivers/virtio/virtio.ko", bytes);
//   modules.LoadOrder({"virtio_console"})     // {"kernel/drivers/virtio/virtio.ko", …, "…/virtio_console.ko"}
//
// A module says by itself what it needs (section .modinfo), so no depmod is run. "-" and "_" in names are the same.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// What a module tells of itself.
struct ModuleInfo {
  std::vector<std::string> depends{};
  std::vector<std::string> aliases{};
};

// Throws BadSpec (`origin` begins the message) when the bytes are no kernel module.
ModuleInfo ReadModuleInfo(std::string_view bytes, std::string_view origin);

// The name of a module file: "kernel/drivers/char/virtio-rng.ko.xz" is virtio_rng. Empty for other files.
std::string ModuleName(std::string_view path);

class KernelModules {
 public:
  // `path` below lib/modules/RELEASE, without a suffix of a compression. Throws as ReadModuleInfo does.
  void Add(std::string path, std::string_view bytes);
  // What is built in, one path a line, as in the file modules.builtin.
  void AddBuiltin(std::string_view list);

  // Paths of the modules of these names and of all that they need, each after what it needs. What is built in needs
  // nothing. Throws BadSpec (`where` begins the message) with the nearest name for one that is not there.
  std::vector<std::string> LoadOrder(const std::vector<std::string>& names, std::string_view where) const;

  // The files modules.dep and modules.alias of busybox's and kmod's modprobe for these modules (paths).
  std::string DependencyFile(const std::vector<std::string>& paths) const;
  std::string AliasFile(const std::vector<std::string>& paths) const;

 private:
  struct Module {
    std::string path;
    ModuleInfo info;
  };

  void AddInOrder(const std::string& name, std::string_view where, std::vector<std::string>& order,
                  std::set<std::string>& seen) const;

  std::map<std::string, Module> modules_;  // by name
  std::set<std::string> builtin_;
};

}  // namespace mayfly::internal
