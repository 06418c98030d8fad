#include <mayfly/internal/template_store.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/pool_protocol.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kBaseFile = "base";
constexpr uint64_t kLargestIndex = uint64_t{4} << 20;
constexpr Bytes kDefaultSpace(uint64_t{8} << 30);
constexpr auto kDefaultAge = std::chrono::hours(24 * 7);

std::string RandomName() {
  std::random_device random;
  return fmt::format("{:08x}", random());
}

// Nanoseconds on a clock that all processes of this boot share.
int64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Waits for the lock; `progress` hears of it when that takes time.
UniqueFd Lock(const fs::path& file, const std::string& label, const Progress& progress) {
  UniqueFd lock(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) ThrowFileError("write", file, errno);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (progress) progress(fmt::format("wait for another process, which prepares {}", label));
  while (flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) ThrowFileError("lock", file, errno);
  }
  return lock;
}

json ReadIndex(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return nullptr;
  json index = json::parse(ReadWholeFile(file, kLargestIndex), nullptr, /*allow_exceptions=*/false);
  return index.is_object() ? index : json(nullptr);
}

void WriteIndex(const fs::path& file, const json& index) {
  fs::path unfinished = file.native() + "." + RandomName();
  WriteWholeFile(unfinished, index.dump(), 0600);
  if (rename(unfinished.c_str(), file.c_str()) != 0) ThrowFileError("write", file, errno);
}

// What a directory takes on the disk; its files have holes.
Bytes SpaceOf(const fs::path& directory) {
  constexpr uint64_t kBlock = 512;
  uint64_t blocks = 0;
  std::error_code error;
  for (const auto& file : fs::recursive_directory_iterator(directory, error)) {
    struct stat status{};
    if (lstat(file.path().c_str(), &status) == 0) blocks += static_cast<uint64_t>(status.st_blocks);
  }
  return Bytes(blocks * kBlock);
}

bool IsTemplate(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.is_directory(error) && fs::exists(entry.path() / "snapshot.json", error);
}

// Removes a template that nobody uses. False when somebody does.
bool TryRemove(const fs::path& directory) {
  UniqueFd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return false;
  std::error_code error;
  // Out of the way first: whoever looks for it finds nothing instead of a half.
  fs::path going = directory.parent_path() / ("removing-" + directory.filename().native());
  fs::rename(directory, going, error);
  if (error) return false;
  fs::remove_all(going, error);
  return true;
}

// $MAYFLY_TEMPLATE_SPACE.
Bytes SpaceByDefault() {
  const char* given = std::getenv("MAYFLY_TEMPLATE_SPACE");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  if (given == nullptr || *given == '\0') return kDefaultSpace;
  if (auto parsed = Bytes::Parse(given)) return *parsed;
  throw BadSpec({.summary = fmt::format("MAYFLY_TEMPLATE_SPACE: \"{}\" is no size; allowed: such as \"8GiB\"", given)});
}

// A build whose process was killed left its lock, and what it had made.
void RemoveUnlessBuilding(const fs::path& root, const std::string& name) {
  UniqueFd lock(open((root / "locks" / name).c_str(), O_RDWR | O_CLOEXEC));
  std::error_code ignored;
  if (lock && flock(lock.get(), LOCK_EX | LOCK_NB) == 0) fs::remove_all(root / ("building-" + name), ignored);
}

}  // namespace

TemplateStore::TemplateStore() : root_(ImageStore().directory() / "templates") {}

fs::path TemplateStore::IndexFile(const TemplateRequest& request) const {
  return root_ / "index" / fmt::format("{}-{}", request.label, request.key);
}

fs::path TemplateStore::Find(const TemplateRequest& request, const Progress& progress) const {
  json index = ReadIndex(IndexFile(request));
  if (!index.is_object() || !index.contains("template")) return {};
  const json files = index.value("files", json::object());
  for (const auto& [file, stamp] : files.items()) {
    if (FileStamp(file) == stamp) continue;
    if (progress) progress(fmt::format("{} has changed: what it went into is prepared again", file));
    return {};
  }
  fs::path directory = root_ / fs::path(index["template"].get<std::string>()).filename();
  CheckedEntry checked = CheckEntry(directory);
  std::error_code error;
  if (!checked.damage.empty() && !fs::exists(directory, error)) return {};  // evicted
  if (!checked.damage.empty()) {
    if (progress) progress(fmt::format("{} is damaged ({}): it is built again", directory.string(), checked.damage));
    return {};
  }
  utimensat(AT_FDCWD, directory.c_str(), nullptr, 0);  // when it was used last; a failure costs its age only
  return directory;
}

fs::path TemplateStore::Build(const TemplateRequest& request) const try {
  fs::path place = root_ / fmt::format("building-{}-{}", request.label, request.key);
  fs::remove_all(place);  // a killed builder's
  fs::create_directories(place);
  struct Cleanup {
    ~Cleanup() {
      std::error_code ignored;
      fs::remove_all(place, ignored);
    }
    const fs::path& place;
  } cleanup{place};
  BuiltTemplate built = request.build(place);
  fs::path directory = built.same_as;
  if (directory.empty()) {
    fs::path snapshot = place / "snapshot";
    if (!built.base.empty()) WriteWholeFile(snapshot / kBaseFile, built.base.filename().native());
    WriteManifest(snapshot, {{"label", request.label}, {"key", request.key}});
    directory = root_ / fmt::format("{}-{}", request.label, RandomName());
    if (rename(snapshot.c_str(), directory.c_str()) != 0) ThrowFileError("write", directory, errno);
  }
  json files = json::object();
  for (const fs::path& file : built.files) files[fs::absolute(file).native()] = FileStamp(file);
  WriteIndex(IndexFile(request), {{"template", directory.filename().native()}, {"files", files}});
  return directory;
} catch (const fs::filesystem_error& error) {
  ThrowFileError("write", error.path1(), error.code().value());
}

fs::path TemplateStore::Get(const TemplateRequest& request, const Progress& progress) const try {
  if (fs::path found = Find(request, progress); !found.empty()) return found;
  int64_t came = Now();
  fs::create_directories(root_ / "index");
  fs::create_directories(root_ / "locks");
  Bytes space = SpaceByDefault();
  UniqueFd lock = Lock(root_ / "locks" / fmt::format("{}-{}", request.label, request.key), request.label, progress);
  // Another process may have made it, or failed to, while this one waited.
  if (fs::path found = Find(request, {}); !found.empty()) return found;
  json index = ReadIndex(IndexFile(request));
  if (index.is_object() && index.value("failed", int64_t{0}) > came) ThrowFromJson(index.at("error"));
  try {
    fs::path built = Build(request);
    lock.Reset();
    UniqueFd in_use = Use(built);  // however little space there is: what was asked for is not removed at once
    Evict(space, kDefaultAge);
    return built;
  } catch (const Error& error) {
    WriteIndex(IndexFile(request), {{"failed", Now()}, {"error", ToJson(error)}});
    throw;
  }
} catch (const fs::filesystem_error& error) {
  ThrowFileError("write", error.path1(), error.code().value());
}

UniqueFd TemplateStore::Use(const fs::path& directory) {
  UniqueFd use(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat here{}, there{};
  if (use && flock(use.get(), LOCK_SH | LOCK_NB) == 0 && fstat(use.get(), &here) == 0 &&
      stat(directory.c_str(), &there) == 0 && here.st_ino == there.st_ino) {
    return use;
  }
  throw BadSpec({.summary = fmt::format("the template {} is gone", directory.string()),
                 .next_step = "it was removed to make room just now; try again"});
}

std::vector<fs::path> TemplateStore::Evict(Bytes space, std::chrono::seconds age) const {
  struct Candidate {
    fs::path directory;
    fs::file_time_type used;
    Bytes size;
  };
  std::vector<Candidate> candidates;
  std::set<std::string> bases;
  uint64_t total = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_, error)) {
    std::string name = entry.path().filename();
    if (name.starts_with("removing-")) fs::remove_all(entry.path(), error);
    if (name.starts_with("building-")) RemoveUnlessBuilding(root_, name.substr(strlen("building-")));
    if (name.starts_with("building-") || name.starts_with("removing-") || !IsTemplate(entry)) continue;
    candidates.push_back({entry.path(), fs::last_write_time(entry, error), SpaceOf(entry.path())});
    total += candidates.back().size.count();
    if (fs::exists(entry.path() / kBaseFile, error)) bases.insert(ReadWholeFile(entry.path() / kBaseFile, 4096));
  }
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return a.used < b.used; });
  std::vector<fs::path> removed;
  auto now = fs::file_time_type::clock::now();
  for (const Candidate& candidate : candidates) {
    bool too_old = now - candidate.used > age;
    if ((total <= space.count() && !too_old) || bases.count(candidate.directory.filename()) != 0) continue;
    if (!TryRemove(candidate.directory)) continue;
    total -= candidate.size.count();
    removed.push_back(candidate.directory);
  }
  return removed;
}

}  // namespace mayfly::internal
