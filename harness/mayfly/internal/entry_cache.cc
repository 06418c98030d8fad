#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/entry_cache.h>
#include <mayfly/internal/files.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kChecked = "checked.json";
constexpr uint64_t kLargestManifest = 16 << 20;

void Tell(const Progress& progress, const std::string& line) {
  if (progress) progress(line);
}

// The right to build entries of one name. Goes with the object or the process, whichever is first.
class BuildLock {
 public:
  BuildLock(const fs::path& file, const std::string& name, const Progress& progress)
      : fd_(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (!fd_) ThrowFileError("write", file, errno);
    if (flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
      std::string holder(32, '\0');
      ssize_t count = pread(fd_.get(), holder.data(), holder.size(), 0);
      holder.resize(count > 0 ? static_cast<size_t>(count) : 0);
      Tell(progress, fmt::format("wait for process {}, which builds {}", holder.empty() ? "?" : holder, name));
      while (flock(fd_.get(), LOCK_EX) != 0) {
        if (errno != EINTR) ThrowFileError("lock", file, errno);
      }
    }
    std::string pid = std::to_string(getpid());
    if (ftruncate(fd_.get(), 0) != 0 || pwrite(fd_.get(), pid.data(), pid.size(), 0) < 0) {
      ThrowFileError("write", file, errno);
    }
  }

 private:
  UniqueFd fd_;
};

// What shows, without reading it, that a file is the one that was checked.
json Stamp(const fs::path& file) {
  struct stat status{};
  if (stat(file.c_str(), &status) != 0) return nullptr;
  constexpr int64_t kNanoseconds = 1'000'000'000;
  return {status.st_size, status.st_mtim.tv_sec * kNanoseconds + status.st_mtim.tv_nsec, status.st_ino};
}

json StampAll(const fs::path& entry, const json& files) {
  json stamps = json::object();
  for (const json& file : files) stamps[file.at("path").get<std::string>()] = Stamp(entry / file.at("path"));
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

struct CheckedEntry {
  Bytes size{};
  std::string damage{};
};

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

// The list of an entry's files, which it also brings to the disk.
json ListFiles(const fs::path& entry) {
  std::map<std::string, fs::path> sorted;
  for (const fs::directory_entry& file : fs::recursive_directory_iterator(entry)) {
    if (file.is_regular_file()) sorted[file.path().lexically_relative(entry).native()] = file.path();
  }
  json files = json::array();
  for (const auto& [name, path] : sorted) {
    UniqueFd fd = OpenToRead(path);
    if (fsync(fd.get()) != 0) ThrowFileError("write", path, errno);
    files.push_back({{"path", name}, {"size", fs::file_size(path)}, {"checksum", Checksum(path)}});
  }
  return files;
}

void Rename(const fs::path& from, const fs::path& to) {
  if (rename(from.c_str(), to.c_str()) != 0) ThrowFileError("write", to, errno);
}

// Puts a directory in the place of another, which may be there and in use.
void MoveIntoPlace(const fs::path& from, const fs::path& to) {
#ifdef RENAME_EXCHANGE
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
#endif
  if (fs::exists(to)) Rename(to, from.native() + ".replaced");
  Rename(from, to);
}

}  // namespace

fs::path EntryCache::Index(const std::string& name, const std::string& key) const {
  return root_ / "index" / fmt::format("{}-{}", name, key);
}

std::optional<EntryCache::Found> EntryCache::Find(const std::string& name, const std::string& key,
                                                  const Progress& progress) const {
  std::error_code error;
  fs::path target = fs::read_symlink(Index(name, key), error);
  if (error) return std::nullopt;
  fs::path entry = root_ / target.filename();
  CheckedEntry checked = CheckEntry(entry);
  if (!checked.damage.empty()) {
    Tell(progress, fmt::format("{} is damaged ({}): it is built again", entry.native(), checked.damage));
    return std::nullopt;
  }
  return Found{.directory = entry, .identity = entry.filename().native().substr(name.size() + 1), .size = checked.size};
}

fs::path EntryCache::Get(const EntryRequest& request, Reuse reuse, const Progress& progress) const try {
  if (reuse == Reuse::kIfBuilt) {
    if (auto found = Find(request.name, request.key, progress)) return found->directory;
  }
  fs::create_directories(root_ / "index");
  fs::create_directories(root_ / "locks");
  BuildLock lock(root_ / "locks" / request.name, request.name, progress);
  return GetLocked(request, reuse, progress);
} catch (const fs::filesystem_error& error) {
  ThrowFileError("write", error.path1(), error.code().value());
}

fs::path EntryCache::GetLocked(const EntryRequest& request, Reuse reuse, const Progress& progress) const {
  if (reuse == Reuse::kIfBuilt) {
    // Another builder may have made it while this one waited; damage has been told already.
    if (auto found = Find(request.name, request.key, {})) return found->directory;
  }
  std::vector<std::string> inputs = request.inputs ? request.inputs() : std::vector<std::string>();
  ContentHash hash;
  hash.Add(request.name).Add(request.key);
  for (const std::string& input : inputs) hash.Add(input);
  std::string identity = hash.Digest();
  fs::path entry = root_ / fmt::format("{}-{}", request.name, identity);
  if (reuse == Reuse::kNever || !CheckEntry(entry).damage.empty()) {
    Tell(progress, fmt::format("build {}", request.name));
    fs::path work = root_ / ("building-" + request.name);
    fs::remove_all(work);  // a killed builder's
    BuildPlace place{.entry = work / "entry", .scratch = work / "scratch"};
    fs::create_directories(place.entry);
    fs::create_directories(place.scratch);
    request.build(place);
    json files = ListFiles(place.entry);
    json manifest = {{"name", request.name}, {"identity", identity}, {"inputs", inputs}, {"files", files}};
    WriteWholeFile(place.entry / kManifest, manifest.dump(2) + "\n");
    WriteStamps(place.entry, files);
    MoveIntoPlace(place.entry, entry);
    fs::remove_all(work);
  }
  fs::path link = Index(request.name, request.key);
  fs::path new_link = link.native() + ".new";
  fs::remove(new_link);
  fs::create_symlink(fs::path("..") / entry.filename(), new_link);
  Rename(new_link, link);
  return entry;
}

}  // namespace mayfly::internal
