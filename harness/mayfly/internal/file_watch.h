// Tells when a file is written to.
//
//   FileWatch watch(path, [] { … });          // until it is destroyed
//
// All of a process share one inotify instance: a user may have 128 by default, and each of hundreds of VMs has a file
// that is followed. To be made and destroyed on the I/O thread, where the callback comes as well.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace mayfly::internal {

class FileWatch {
 public:
  // Throws std::system_error.
  FileWatch(const std::filesystem::path& file, std::function<void()> on_write);
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

 private:
  uint64_t id_;
};

}  // namespace mayfly::internal
