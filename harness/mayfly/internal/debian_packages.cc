#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/debian_packages.h>
#include <mayfly/internal/files.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <vector>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kLookupTime = 60s;
constexpr auto kDownloadTime = 30min;
constexpr Bytes kLargestPackage(uint64_t{1} << 30);
constexpr uint64_t kLongestAptOutput = 1 << 20;

constexpr const char* kUpdate = "apt-get update";

// The lines of a program that matter to people: its last ones.
std::vector<std::string> LastLines(std::string_view text) {
  constexpr size_t kShown = 3;
  std::vector<std::string> lines;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.empty()) lines.emplace_back(line);
  }
  if (lines.size() > kShown) lines.erase(lines.begin(), lines.end() - kShown);
  return lines;
}

void RequireApt(const std::string& program) {
  if (FindProgram(program)) return;
  throw HostLacks(
      {.summary = fmt::format("{} is not on PATH, which guest images are built with", program),
       .notes = {},
       .next_step = "build on Debian, or bring your own kernel and initramfs: boot.kernel, boot.initramfs"});
}

// The value of a field of a package record: "Version: 6.1.192-2".
std::string Field(std::string_view record, std::string_view field) {
  while (!record.empty()) {
    std::string_view line = record.substr(0, record.find('\n'));
    record.remove_prefix(std::min(line.size() + 1, record.size()));
    if (line.empty()) break;  // the end of the record
    if (line.starts_with(field) && line.substr(field.size()).starts_with(": ")) {
      return std::string(line.substr(field.size() + 2));
    }
  }
  return {};
}

PackageRecord Show(const std::string& name) {
  CommandOutput shown = RunCommand({"apt-cache", "show", "--no-all-versions", "--", name}, kLookupTime);
  if (!shown.status.ok()) {
    throw HostLacks(
        {.summary = fmt::format("apt knows no package {}", name), .notes = LastLines(shown.out), .next_step = kUpdate});
  }
  return ReadPackageRecord(shown.out, name);
}

}  // namespace

PackageRecord ReadPackageRecord(std::string_view text, const std::string& name) {
  size_t start = text.find("Package: ");
  std::string_view record = start == std::string_view::npos ? std::string_view() : text.substr(start);
  std::string size = Field(record, "Size");
  bool is_number =
      !size.empty() && std::all_of(size.begin(), size.end(), [](unsigned char c) { return std::isdigit(c); });
  PackageRecord read{.package = {.name = Field(record, "Package"),
                                 .version = Field(record, "Version"),
                                 .architecture = Field(record, "Architecture"),
                                 .size = Bytes::Parse(is_number ? size : "0").value_or(kLargestPackage)},
                     .kernel = {}};
  if (read.package.name.empty() || read.package.version.empty()) {
    throw HostLacks(
        {.summary = fmt::format("apt says nothing of package {}", name), .notes = {}, .next_step = kUpdate});
  }
  std::string depends = Field(record, "Depends");
  if (depends.starts_with("linux-image-")) read.kernel = depends.substr(0, depends.find_first_of(" ,|("));
  return read;
}

DebianPackage FindPackage(const std::string& name) {
  RequireApt("apt-cache");
  PackageRecord found = Show(name);
  return found.kernel.empty() ? found.package : Show(found.kernel).package;
}

fs::path Download(const DebianPackage& package, const fs::path& directory) {
  RequireApt("apt-get");
  if (package.size > kLargestPackage) {
    throw HostLacks({.summary = fmt::format("package {} is too large: {}", package.name, ForPeople(package.size)),
                     .notes = {},
                     .next_step = {}});
  }
  fs::create_directories(directory);
  fs::path log = directory / "apt.log";
  // apt downloads into its working directory, as itself: the user _apt could not write there.
  ChildProcess apt(
      {.argv = {"apt-get", "-q", "-o", "APT::Sandbox::User=", "download", "--", package.name + "=" + package.version},
       .stdout_path = log,
       .stderr_path = log,
       .environment = {{"LC_ALL", "C"}},
       .working_directory = directory});
  ExitStatus status = apt.Wait(Deadline::After(kDownloadTime));
  std::vector<std::string> words = LastLines(ReadWholeFile(log, kLongestAptOutput));
  fs::remove(log);
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (status.ok() && entry.path().extension() == ".deb") return entry.path();
  }
  throw HostLacks({.summary = fmt::format("apt-get download of {} {} failed ({})", package.name, package.version,
                                          status.ToString()),
                   .notes = std::move(words),
                   .next_step = kUpdate});
}

}  // namespace mayfly::internal
