// A small file system of its own for one test, where root may mount one; unmounted at the end.
//
//   SmallFileSystem small;
//   if (!small.mounted()) GTEST_SKIP() << SmallFileSystem::kWhyNot;
//   small.Fill();
#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <mayfly/internal/test_directory.h>

namespace mayfly::internal {

class SmallFileSystem {
 public:
  static constexpr std::string_view kWhyNot = "mounting a small file system needs root";

  // `size` as tmpfs takes it.
  explicit SmallFileSystem(const std::string& size = "2m")
      : mounted_(mount("tmpfs", path().c_str(), "tmpfs", 0, ("mode=700,size=" + size).c_str()) == 0) {}
  ~SmallFileSystem() {
    if (mounted_) umount2(path().c_str(), MNT_DETACH);
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  bool mounted() const { return mounted_; }
  const std::filesystem::path& path() const { return directory_.path(); }

  // Leaves no byte free.
  void Fill() const {
    std::ofstream file(path() / "filler", std::ios::binary);
    while (file.write("x", 1).flush()) continue;
  }
  void MakeReadOnly() const { mount(nullptr, path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr); }

 private:
  TestDirectory directory_;
  bool mounted_;
};

}  // namespace mayfly::internal
