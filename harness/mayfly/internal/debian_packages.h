// Packages of the host's Debian archives, looked up and downloaded by apt, never installed.
//
//   DebianPackage kernel = FindPackage("linux-image-cloud-amd64");
//     // the package that the meta package stands for: linux-image-6.1.0-56-cloud-amd64, 6.1.192-2
//   std::filesystem::path deb = Download(kernel, directory);
//
// apt-cache and apt-get take part of a second each: call them only to build.
#pragma once

#include <mayfly/bytes.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace mayfly::internal {

struct DebianPackage {
  std::string name{};
  std::string version{};
  std::string architecture{};
  Bytes size{};  // of the download

  // "busybox-static 1:1.35.0-4+b1 amd64": what an image's identity keeps of it.
  std::string ToString() const { return name + " " + version + " " + architecture; }
};

// The candidate that apt would install. A kernel's meta package leads to the kernel that it depends on. Throws
// HostLacks when there is no apt or no such package.
DebianPackage FindPackage(const std::string& name);

// What `apt-cache show` printed, as FindPackage reads it. `kernel` is the package that a meta package leads to, or
// empty.
struct PackageRecord {
  DebianPackage package{};
  std::string kernel{};
};
// Throws HostLacks (with `name`) when the text is no package record.
PackageRecord ReadPackageRecord(std::string_view text, const std::string& name);

// Downloads the package into a directory and returns the file. Throws HostLacks with apt's words when that fails, and
// when the package is larger than 1 GiB.
std::filesystem::path Download(const DebianPackage& package, const std::filesystem::path& directory);

}  // namespace mayfly::internal
