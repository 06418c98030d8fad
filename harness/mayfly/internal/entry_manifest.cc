#include <mayfly/internal/entry_manifest.h>

#include <mayfly/errors.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/files.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <string_view>

#include <fmt/format.h>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kChecked = "checked.json";
constexpr uint64_t kLargestManifest = 16 << 20;

}  // namespace

json FileStamp(const fs::path& file) {
  struct stat status{};
  if (stat(file.c_str(), &status) != 0) return nullptr;
  constexpr int64_t kNanoseconds = 1'000'000'000;
  return {status.st_size, status.st_mtim.tv_sec * kNanoseconds + status.st_mtim.tv_nsec, status.st_ino};
}

namespace {

json StampAll(const fs::path& entry, const json& files) {
  json stamps = json::object();
  for (const json& file : files) stamps[file.at("path").get<std::string>()] = FileStamp(entry / file.at("path"));
  return stamps;
}

std::string Checksum(const fs::path& file) { return ContentHash().AddFile(file).Digest(); }

// Not atomic and may fail: whoever reads something else checks the files again.
void WriteStamps(const fs::path& entry, const json& files) {
  try {
    WriteWholeFile(entry / kChecked, StampAll(entry, files).dump());
  } catch (const Error&) {
  }
}

bool AlwaysVerify() {
  const char* value = std::getenv("MAYFLY_VERIFY");  // NOLINT(concurrency-mt-unsafe): nobody sets the environment
  return value != nullptr && std::string_view(value) == "1";
}

// What is wrong with the files of an entry, or nothing.
std::string FindDamage(const fs::path& entry, const json& files) {
  for (const json& file : files) {
    std::string name = file.at("path");
    std::error_code error;
    auto size = fs::file_size(entry / name, error);
    if (error) return name + " is missing";
    if (size != file.at("size").get<uint64_t>()) return name + " has another size";
    if (Checksum(entry / name) != file.at("checksum").get<std::string>()) return name + " has another checksum";
  }
  return {};
}

}  // namespace

CheckedEntry CheckEntry(const fs::path& entry) {
  try {
    const json files = json::parse(ReadWholeFile(entry / kManifest, kLargestManifest)).at("files");
    CheckedEntry checked;
    for (const json& file : files) checked.size = checked.size + Bytes(file.at("size").get<uint64_t>());
    std::error_code error;
    if (!AlwaysVerify() && fs::exists(entry / kChecked, error)) {
      json known = json::parse(ReadWholeFile(entry / kChecked, kLargestManifest), nullptr, /*allow_exceptions=*/false);
      if (known == StampAll(entry, files)) return checked;
    }
    checked.damage = FindDamage(entry, files);
    if (checked.damage.empty()) WriteStamps(entry, files);
    return checked;
  } catch (const json::exception&) {
    return {.damage = fmt::format("{} is broken", kManifest)};
  } catch (const Error& error) {
    return {.damage = error.text().summary};
  }
}

namespace {

json ListFiles(const fs::path& entry, Flush flush) {
  std::map<std::string, fs::path> sorted;
  for (const fs::directory_entry& file : fs::recursive_directory_iterator(entry)) {
    if (file.is_regular_file()) sorted[file.path().lexically_relative(entry).native()] = file.path();
  }
  json files = json::array();
  for (const auto& [name, path] : sorted) {
    UniqueFd fd = OpenToRead(path);
    if (flush == Flush::kYes && fsync(fd.get()) != 0) ThrowFileError("write", path, errno);
    files.push_back({{"path", name}, {"size", fs::file_size(path)}, {"checksum", Checksum(path)}});
  }
  return files;
}

}  // namespace

void WriteManifest(const fs::path& entry, json manifest, Flush flush) {
  json files = ListFiles(entry, flush);
  manifest["files"] = files;
  WriteWholeFile(entry / kManifest, manifest.dump(2) + "\n");
  WriteStamps(entry, files);
}

}  // namespace mayfly::internal
