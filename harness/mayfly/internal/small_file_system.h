// A small file system of its own for one test, where root may mount one; unmounted at the end.
//
//   SmallFileSystem small;
//   if (!small.mounted()) GTEST_SKIP() << SmallFileSystem::kWhyNot;
//   small.Fill();
#pragma once

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unique_fd.h>

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
    UniqueFd file(open((path() / "filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    for (size_t size : {size_t{1} << 16, size_t{1}}) {
      std::string block(size, 'x');
      while (write(file.get(), block.data(), block.size()) > 0) continue;
    }
  }
  void Resize(const std::string& size) const {
    mount(nullptr, path().c_str(), nullptr, MS_REMOUNT, ("size=" + size).c_str());
  }
  void MakeReadOnly() const { mount(nullptr, path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr); }

 private:
  TestDirectory directory_;
  bool mounted_;
};

}  // namespace mayfly::internal
