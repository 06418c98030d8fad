#include "drivers/qemu/host_facts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

fs::path CacheDirectory() {
  const std::pair<const char*, const char*> places[] = {
      {"MAYFLY_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "mayfly"}, {"HOME", ".cache/mayfly"}};
  for (const auto& [variable, below] : places) {
    const char* value = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
    if (value != nullptr && *value == '/') return fs::path(value) / below;
  }
  return {};
}

}  // namespace

HostFacts::HostFacts() {
  fs::path cache = CacheDirectory();
  if (cache.empty()) return;
  directory_ = cache / "host";
  std::error_code ignored;
  fs::create_directories(directory_, ignored);
}

fs::path HostFacts::FileOf(const std::string& key) const {
  return directory_ / fmt::format("{:016x}", XXH3_64bits(key.data(), key.size()));
}

std::optional<std::string> HostFacts::Get(const std::string& key) const {
  if (directory_.empty()) return std::nullopt;
  std::ifstream file(FileOf(key), std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  std::string head = key + "\n";  // the whole key: two keys may have one hash
  if (!file || content.compare(0, head.size(), head) != 0) return std::nullopt;
  return content.substr(head.size());
}

void HostFacts::Put(const std::string& key, const std::string& value) const {
  if (directory_.empty()) return;
  fs::path path = FileOf(key);
  fs::path draft = path;
  draft += fmt::format(".{}", gettid());
  std::ofstream file(draft, std::ios::binary);
  file << key << "\n" << value;
  file.close();
  std::error_code ignored;
  file ? fs::rename(draft, path, ignored) : void(fs::remove(draft, ignored));
}

std::shared_ptr<const void> HostFacts::Lock() const {
  if (directory_.empty()) return nullptr;
  auto lock = std::make_shared<UniqueFd>(open((directory_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!*lock || flock(lock->get(), LOCK_EX) != 0) return nullptr;
  return lock;
}

std::string FileIdentity(const fs::path& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return path.string();
  return fmt::format("{} {} {}.{}", path.string(), status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

}  // namespace mayfly::internal
