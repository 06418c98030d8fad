#include <mayfly/internal/template_store.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/kill_point.h>
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
#include <optional>
#include <random>
#include <set>
#include <string_view>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kBaseFile = "base";
// How the names of directories begin that are no templates yet, and no templates any more.
constexpr std::string_view kBuilding = "building-";
constexpr std::string_view kRemoving = "removing-";
constexpr std::string_view kUnfinished = ".new";  // ends the name of an index that is being written
constexpr uint64_t kLargestIndex = uint64_t{4} << 20;
constexpr Bytes kDefaultSpace(uint64_t{8} << 30);
// A file system that has less counts as full.
constexpr uint64_t kNoSpace = uint64_t{1} << 20;
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
  fs::path unfinished = file.native() + std::string(kUnfinished);  // one writes at a time, under the lock
  WriteWholeFile(unfinished, index.dump(), 0600);
  if (rename(unfinished.c_str(), file.c_str()) != 0) ThrowFileError("write", file, errno);
}

// A machine that cannot be saved will not be another time either: whoever asks again is told without a build.
json IndexOfFailure(const Error& error) {
  const auto* unsupported = dynamic_cast<const Unsupported*>(&error);
  bool refused = unsupported != nullptr && unsupported->capability() == Capability::kStateSnapshot;
  return refused ? json{{"refused", ToJson(error)}} : json{{"failed", Now()}, {"error", ToJson(error)}};
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
  fs::path going = directory.parent_path() / (std::string(kRemoving) + directory.filename().native());
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

// The lock of the build called `name`, which says that none is under way; nothing when one is.
std::optional<UniqueFd> LockUnlessBuilding(const fs::path& root, const std::string& name) {
  UniqueFd lock(open((root / "locks" / name).c_str(), O_RDWR | O_CLOEXEC));
  if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  return lock;
}

std::optional<UniqueFd> LockUnlessRemoving(const fs::path& directory) {
  UniqueFd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  return lock;
}

// A guest whose memory lies in files dies when they cannot grow, and a VMM that is killed does not say why.
BuiltTemplate BuildIn(const fs::path& place, const TemplateRequest& request) try {
  return request.build(place);
} catch (const VmmDied& error) {
  std::error_code unknown;
  fs::space_info space = fs::space(place, unknown);
  if (unknown || space.available >= kNoSpace) throw;
  throw HostLacks({.summary = fmt::format("cannot write {}: No space left on device", place.native()),
                   .notes = {error.text().summary},
                   .next_step = "free space there, or set MAYFLY_CACHE_DIR to a directory with more"});
}

}  // namespace

TemplateStore::TemplateStore() : root_(ImageStore().directory() / "templates") {}

fs::path TemplateStore::IndexFile(const TemplateRequest& request) const {
  return root_ / "index" / fmt::format("{}-{}", request.label, request.key);
}

fs::path TemplateStore::Find(const TemplateRequest& request, const Progress& progress) const {
  json index = ReadIndex(IndexFile(request));
  if (index.is_object() && index.contains("refused")) ThrowFromJson(index["refused"]);
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
  fs::path place = root_ / fmt::format("{}{}-{}", kBuilding, request.label, request.key);
  fs::remove_all(place);  // a killed builder's
  fs::create_directories(place);
  struct Cleanup {
    ~Cleanup() {
      std::error_code ignored;
      fs::remove_all(place, ignored);
    }
    const fs::path& place;
  } cleanup{place};
  KillPoint("template.begun", {.test = getpid()});
  BuiltTemplate built = BuildIn(place, request);
  KillPoint("template.built", {.test = getpid()});
  fs::path directory = built.same_as;
  if (directory.empty()) {
    fs::path snapshot = place / "snapshot";
    if (!built.base.empty()) WriteWholeFile(snapshot / kBaseFile, built.base.filename().native());
    WriteManifest(snapshot, {{"label", request.label}, {"key", request.key}});
    directory = root_ / fmt::format("{}-{}", request.label, RandomName());
  }
  json files = json::object();
  for (const fs::path& file : built.files) files[fs::absolute(file).native()] = FileStamp(file);
  // Before the template is in its place: killed in between, this leaves a name without a template, which is built
  // again, and no template without a name, which would be found by nobody.
  WriteIndex(IndexFile(request), {{"template", directory.filename().native()}, {"files", files}});
  KillPoint("template.named", {.test = getpid()});
  if (built.same_as.empty() && rename((place / "snapshot").c_str(), directory.c_str()) != 0) {
    ThrowFileError("write", directory, errno);
  }
  KillPoint("template.placed", {.test = getpid()});
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
  fs::path built;
  try {
    built = Build(request);
  } catch (const Error& error) {
    WriteIndex(IndexFile(request), IndexOfFailure(error));
    throw;
  }
  lock.Reset();
  UniqueFd in_use = Use(built);  // however little space there is: what was asked for is not removed at once
  Evict(space, kDefaultAge);
  return built;
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

std::vector<TemplateStore::Stored> TemplateStore::List() const {
  std::vector<Stored> stored;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_, error)) {
    std::string name = entry.path().filename();
    if (name.starts_with(kBuilding) || name.starts_with(kRemoving) || !IsTemplate(entry)) continue;
    stored.push_back({entry.path(), fs::last_write_time(entry, error), SpaceOf(entry.path())});
  }
  std::sort(stored.begin(), stored.end(), [](const auto& a, const auto& b) { return a.used < b.used; });
  return stored;
}

std::vector<fs::path> TemplateStore::Garbage(bool remove) const {
  std::vector<fs::path> found;
  std::error_code error;
  auto take = [&](const fs::path& path, const std::optional<UniqueFd>& lock) {
    if (!lock) return;
    error.clear();
    if (remove) fs::remove_all(path, error);
    if (!error) found.push_back(path);
  };
  for (const auto& entry : fs::directory_iterator(root_, error)) {
    std::string name = entry.path().filename();
    if (name.starts_with(kRemoving)) take(entry, LockUnlessRemoving(entry));
    if (name.starts_with(kBuilding)) take(entry, LockUnlessBuilding(root_, name.substr(kBuilding.size())));
  }
  for (const auto& entry : fs::directory_iterator(root_ / "index", error)) {
    std::string name = entry.path().filename();
    if (name.ends_with(kUnfinished)) {
      take(entry, LockUnlessBuilding(root_, name.substr(0, name.size() - kUnfinished.size())));
    }
  }
  return found;
}

std::vector<fs::path> TemplateStore::Evict(Bytes space, std::chrono::seconds age) const {
  Garbage(/*remove=*/true);
  std::vector<Stored> candidates = List();
  std::set<std::string> bases;
  uint64_t total = 0;
  std::error_code error;
  for (const Stored& candidate : candidates) {
    total += candidate.size.count();
    fs::path base = candidate.directory / kBaseFile;
    if (fs::exists(base, error)) bases.insert(ReadWholeFile(base, 4096));
  }
  std::vector<fs::path> removed;
  auto now = fs::file_time_type::clock::now();
  for (const Stored& candidate : candidates) {
    bool too_old = now - candidate.used > age;
    if ((total <= space.count() && !too_old) || bases.count(candidate.directory.filename()) != 0) continue;
    if (!TryRemove(candidate.directory)) continue;
    total -= candidate.size.count();
    removed.push_back(candidate.directory);
  }
  return removed;
}

}  // namespace mayfly::internal
