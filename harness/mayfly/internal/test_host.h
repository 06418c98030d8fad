// A host for tests: a directory with files in the places where Linux has them.
//
//   TestHost host;
//   host.Write("proc/meminfo", "MemTotal: 16777216 kB\n");
//   ReadHostMemory(host.root());
#pragma once

#include <mayfly/internal/test_directory.h>

#include <filesystem>
#include <fstream>
#include <string_view>

namespace mayfly::internal {

class TestHost {
 public:
  const std::filesystem::path& root() const { return directory_.path(); }

  void Write(const std::filesystem::path& file, std::string_view content) const {
    std::filesystem::create_directories((root() / file).parent_path());
    std::ofstream(root() / file) << content;
  }

 private:
  TestDirectory directory_;
};

}  // namespace mayfly::internal
