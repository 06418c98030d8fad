#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/entry_cache.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/files.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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
    WriteManifest(place.entry, {{"name", request.name}, {"identity", identity}, {"inputs", inputs}});
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
