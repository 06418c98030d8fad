#include <mayfly/internal/pool_directory.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/unix_address.h>
#include <mayfly/sandbox.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "pool-";
constexpr size_t kDigits = 12;

struct PoolFile {
  const char* extension;
  mode_t type;
};
// In the order in which they are removed: the lock last, because it is held meanwhile.
constexpr std::array kFiles = {PoolFile{".sock", S_IFSOCK}, PoolFile{".log", S_IFREG}, PoolFile{".log.1", S_IFREG},
                               PoolFile{".out", S_IFREG}, PoolFile{".start", S_IFREG}};

std::string ErrnoText(int error) { return std::generic_category().message(error); }

// "pool-0123456789ab" of "pool-0123456789ab.log.1"; empty for what is no daemon's.
std::string NameIn(const std::string& file) {
  std::string name = file.substr(0, kPrefix.size() + kDigits);
  bool ours = name.starts_with(kPrefix) && name.size() == kPrefix.size() + kDigits &&
              name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string::npos;
  for (const PoolFile& known : kFiles) {
    if (ours && file == name + known.extension) return name;
  }
  return {};
}

UniqueFd OpenStartLock(const PoolFiles& pool) {
  return UniqueFd(open(pool.Path(".start").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}

// Whether the file is still the one of that name: whoever removes a daemon's files removes the lock as well.
bool IsCurrent(const UniqueFd& lock, const fs::path& path) {
  struct stat opened{}, named{};
  return fstat(lock.get(), &opened) == 0 && lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
}

std::vector<fs::path> FilesOfType(const PoolFiles& pool, Duration age) {
  std::vector<fs::path> files;
  auto now = fs::file_time_type::clock::now();
  for (const PoolFile& known : kFiles) {
    struct stat status{};
    fs::path path = pool.Path(known.extension);
    if (lstat(path.c_str(), &status) != 0 || (status.st_mode & S_IFMT) != known.type) continue;
    std::error_code error;
    if (known.type == S_IFREG && now - fs::last_write_time(path, error) < age) return {};
    files.push_back(std::move(path));
  }
  return files;
}

std::vector<fs::path> PoolGarbage(const fs::path& runtime, Duration age, bool remove) {
  std::vector<fs::path> found;
  for (const PoolFiles& pool : PoolFilesIn(runtime)) {
    std::vector<fs::path> files = FilesOfType(pool, age);
    if (files.empty()) continue;
    try {
      bool had_lock = fs::exists(pool.Path(".start"));
      std::optional<UniqueFd> lock = TryLockStart(pool);
      bool gone = lock && !ConnectTo(pool);
      if (lock && !had_lock) unlink(pool.Path(".start").c_str());
      if (!gone) continue;
    } catch (const Error&) {
      continue;  // it cannot be told whether it is gone
    }
    for (const fs::path& file : files) {
      if (!remove || unlink(file.c_str()) == 0) found.push_back(file);
    }
  }
  return found;
}

}  // namespace

std::vector<PoolFiles> PoolFilesIn(const fs::path& runtime) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(runtime, error)) {
    if (std::string name = NameIn(entry.path().filename()); !name.empty()) names.insert(std::move(name));
  }
  std::vector<PoolFiles> pools;
  for (const std::string& name : names) pools.push_back({.name = name, .directory = runtime});
  return pools;
}

std::optional<UniqueFd> ConnectTo(const PoolFiles& pool) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    throw HostLacks({.summary = "cannot make a socket: " + ErrnoText(errno),
                     .next_step = "raise the limit of open files (ulimit -n)"});
  }
  std::string name = pool.socket().string();
  const sockaddr_un address = UnixAddress(name).value();  // RuntimeDirectory leaves room for it
  int result = 0;
  do {
    result = connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return fd;
  if (errno == ENOENT || errno == ECONNREFUSED) return std::nullopt;
  throw HostLacks({.summary = fmt::format("cannot connect to mayflyd at {}: {}", name, ErrnoText(errno))});
}

UniqueFd LockStart(const PoolFiles& pool) {
  while (true) {
    UniqueFd lock = OpenStartLock(pool);
    int result = -1;
    if (lock) {
      do {
        result = flock(lock.get(), LOCK_EX);  // held for as long as a daemon takes to start, which is bounded
      } while (result != 0 && errno == EINTR);
    }
    if (result != 0) {
      throw HostLacks({.summary = fmt::format("cannot lock {}: {}", pool.Path(".start").string(), ErrnoText(errno)),
                       .next_step = "remove what has that name, or set MAYFLY_RUNTIME_DIR to another directory"});
    }
    if (IsCurrent(lock, pool.Path(".start"))) return lock;
  }
}

std::optional<UniqueFd> TryLockStart(const PoolFiles& pool) {
  UniqueFd lock = OpenStartLock(pool);
  if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0 || !IsCurrent(lock, pool.Path(".start"))) return std::nullopt;
  return lock;
}

std::vector<FoundPool> FindPools(Duration patience) {
  std::vector<FoundPool> pools;
  for (PoolFiles& files : PoolFilesIn(RuntimeDirectory())) {
    FoundPool pool{.files = std::move(files)};
    try {
      if (std::optional<UniqueFd> socket = ConnectTo(pool.files)) {
        pool.state = PoolState::kForeign;
        pool.pid = PeerProcess(socket->get());
        pool.connection = std::make_unique<PoolConnection>(std::move(*socket), patience);
        pool.state = PoolState::kRuns;
      }
    } catch (const Timeout& error) {
      pool.state = PoolState::kSilent;
      pool.trouble = error.text().summary;
    } catch (const PeerGone&) {
      pool.state = PoolState::kGone;  // it was leaving
    } catch (const Error& error) {
      pool.trouble = error.text().summary;
    }
    pools.push_back(std::move(pool));
  }
  return pools;
}

std::vector<fs::path> FindPoolGarbage(const fs::path& runtime, Duration age) {
  return PoolGarbage(runtime, age, /*remove=*/false);
}

std::vector<fs::path> RemovePoolGarbage(const fs::path& runtime, Duration age) {
  return PoolGarbage(runtime, age, /*remove=*/true);
}

}  // namespace mayfly::internal
