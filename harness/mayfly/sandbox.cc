#include <mayfly/sandbox.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/janitor.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::UniqueFd;

#ifdef __APPLE__
constexpr size_t kMaxSocketPath = 103;
#else
constexpr size_t kMaxSocketPath = 107;
#endif
// "/p4194304-x7" + "/" + name of 16, "-" and number of 4 + "/" + inner directory of 3 + "/" + file name of 16.
constexpr size_t kMaxBelowRuntimeDirectory = 12 + 1 + 21 + 1 + 3 + 1 + 16;
constexpr size_t kMaxRuntimeDirectory = kMaxSocketPath - kMaxBelowRuntimeDirectory;
constexpr size_t kMaxName = 16;

struct RuntimePlace {
  fs::path path;
  std::string variable;  // that chose it
};

const char* Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return value != nullptr && *value != '\0' ? value : nullptr;
}

RuntimePlace ChooseRuntimePlace() {
  if (const char* chosen = Environment("MAYFLY_RUNTIME_DIR")) return {chosen, "MAYFLY_RUNTIME_DIR"};
  const char* xdg = Environment("XDG_RUNTIME_DIR");
  if (xdg != nullptr && access(xdg, W_OK) == 0) return {fs::path(xdg) / "mayfly", "XDG_RUNTIME_DIR"};
  const char* temporary = Environment("TMPDIR");
  return {fs::path(temporary != nullptr ? temporary : "/tmp") / fmt::format("mayfly-{}", getuid()), "TMPDIR"};
}

[[noreturn]] void ThrowNotUsable(const RuntimePlace& place, const std::string& why, int error) {
  ErrorText text{.summary = fmt::format("{}: the runtime directory {} {}", place.variable, place.path.string(), why),
                 .next_step = "set MAYFLY_RUNTIME_DIR to a short path of a directory that is yours alone"};
  if (error == ENOSPC || error == EROFS || error == EMFILE || error == ENFILE) throw HostLacks(std::move(text));
  throw BadSpec(std::move(text));
}

std::string RandomSuffix() {
  static constexpr char kAlphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::uniform_int_distribution<size_t> pick(0, sizeof kAlphabet - 2);
  return {kAlphabet[pick(random)], kAlphabet[pick(random)]};
}

// Opens and locks a process directory; nothing when its owner still holds it or it is gone.
std::optional<UniqueFd> TryLock(const fs::path& directory) {
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  struct stat opened{}, named{};
  if (fstat(fd.get(), &opened) != 0 || stat(directory.c_str(), &named) != 0 || opened.st_ino != named.st_ino) {
    return std::nullopt;
  }
  return fd;
}

enum class Garbage { kLeave, kRemove };

std::vector<fs::path> GarbageIn(const fs::path& runtime, Garbage fate) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(runtime, error)) {
    if (!entry.path().filename().string().starts_with('p')) continue;
    auto lock = TryLock(entry.path());
    if (!lock) continue;
    if (fate == Garbage::kRemove) fs::remove_all(entry.path(), error);
    if (!error) found.push_back(entry.path());
  }
  return found;
}

// The part of the runtime directory that belongs to this process. Its lock tells the living from the dead.
class ProcessDirectory {
 public:
  ProcessDirectory() : owner_(getpid()) {
    fs::path runtime = RuntimeDirectory();
    GarbageIn(runtime, Garbage::kRemove);
    for (int attempt = 0; attempt < 100 && !lock_; ++attempt) {
      path_ = runtime / fmt::format("p{}-{}", getpid(), RandomSuffix());
      if (mkdir(path_.c_str(), 0700) != 0) {
        if (errno == EEXIST) continue;
        int error = errno;
        throw HostLacks(
            {.summary = fmt::format("cannot make {}: {}", path_.string(), std::generic_category().message(error)),
             .next_step = "free space there, or set MAYFLY_RUNTIME_DIR to another directory"});
      }
      // Another process's garbage collection may have locked and removed it in this moment: then a new one is made.
      if (auto lock = TryLock(path_)) lock_ = std::move(*lock);
    }
    internal::StartJanitor(path_);
  }

  ~ProcessDirectory() { Remove(); }

  // A forked child (GoogleTest's death tests) runs destructors too; the directory is not its own.
  void Remove() noexcept {
    if (getpid() != owner_) return;
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  fs::path Next(std::string_view name) {
    std::string clean;
    for (char c : name.substr(0, kMaxName)) {
      bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
      clean += plain ? c : '-';
    }
    std::lock_guard lock(mutex_);
    return path_ / fmt::format("{}-{}", clean.empty() ? "vm" : clean, ++count_);
  }

 private:
  const pid_t owner_;
  fs::path path_;
  UniqueFd lock_;
  std::mutex mutex_;
  int count_ = 0;
};

ProcessDirectory& ThisProcessDirectory() {
  static ProcessDirectory directory;
  return directory;
}

std::atomic<bool> has_process_directory{false};

}  // namespace

fs::path RuntimeDirectory() {
  RuntimePlace place = ChooseRuntimePlace();
  if (!place.path.is_absolute()) ThrowNotUsable(place, "is not an absolute path", 0);
  if (place.path.string().size() > kMaxRuntimeDirectory) {
    ThrowNotUsable(place,
                   fmt::format("has {} bytes; sockets below it leave room for {}", place.path.string().size(),
                               kMaxRuntimeDirectory),
                   0);
  }
  std::error_code error;
  fs::create_directories(place.path.parent_path(), error);
  if (mkdir(place.path.c_str(), 0700) != 0 && errno != EEXIST) {
    ThrowNotUsable(place, fmt::format("cannot be made: {}", std::generic_category().message(errno)), errno);
  }
  struct stat status{};
  if (lstat(place.path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    ThrowNotUsable(place, "is not a directory", 0);
  }
  if (status.st_uid != getuid()) ThrowNotUsable(place, fmt::format("belongs to user {}", status.st_uid), 0);
  if ((status.st_mode & 077) != 0) {
    ThrowNotUsable(place, fmt::format("is open to other users (mode {:03o}, needed 700)", status.st_mode & 0777), 0);
  }
  if (access(place.path.c_str(), W_OK) != 0) ThrowNotUsable(place, "is not writable", errno);
  return place.path;
}

std::vector<fs::path> FindGarbage() {
  fs::path runtime = RuntimeDirectory();
  std::vector<fs::path> found = GarbageIn(runtime, Garbage::kLeave);
  for (fs::path& file : internal::FindPoolGarbage(runtime)) found.push_back(std::move(file));
  return found;
}

std::vector<fs::path> CollectGarbage() {
  fs::path runtime = RuntimeDirectory();
  std::vector<fs::path> found = GarbageIn(runtime, Garbage::kRemove);
  for (fs::path& file : internal::RemovePoolGarbage(runtime)) found.push_back(std::move(file));
  return found;
}

namespace {

fs::path Made(fs::path sandbox) {
  if (mkdir(sandbox.c_str(), 0700) == 0) return sandbox;
  throw HostLacks({.summary = fmt::format("cannot make the sandbox {}: {}", sandbox.string(),
                                          std::generic_category().message(errno)),
                   .next_step = "free space there, or set MAYFLY_RUNTIME_DIR to another directory"});
}

}  // namespace

Sandbox Sandbox::Create(std::string_view name) {
  fs::path path = ThisProcessDirectory().Next(name);
  has_process_directory = true;
  return Sandbox(Made(std::move(path)));
}

Sandbox Sandbox::Inner(std::string_view name) const {
  Sandbox inner(Made(directory_ / name));
  inner.owner_ = owner_;
  return inner;
}

Sandbox::Sandbox(fs::path directory) : directory_(std::move(directory)) {}

Sandbox Sandbox::OwnedBy(std::shared_ptr<internal::SandboxOwner> owner, fs::path directory) {
  Sandbox sandbox(std::move(directory));
  sandbox.owner_ = std::move(owner);
  return sandbox;
}

std::unique_ptr<internal::Process> Sandbox::Start(internal::ChildOptions options) const {
  if (owner_) return owner_->Start(std::move(options));
  auto process = std::make_unique<internal::ChildProcess>(std::move(options));
  internal::EndFirstWithoutMemory(process->pid());
  return process;
}

void Sandbox::Keep() {
  keep_ = true;
  if (owner_) owner_->Keep();
}

Sandbox::Sandbox(Sandbox&& other) noexcept
    : directory_(std::exchange(other.directory_, {})),
      owner_(std::move(other.owner_)),
      keep_(std::exchange(other.keep_, false)) {}

Sandbox& Sandbox::operator=(Sandbox&& other) noexcept {
  if (this != &other) {
    Remove();
    directory_ = std::exchange(other.directory_, {});
    owner_ = std::move(other.owner_);
    keep_ = std::exchange(other.keep_, false);
  }
  return *this;
}

Sandbox::~Sandbox() { Remove(); }

void Sandbox::Remove() noexcept {
  if (directory_.empty() || keep_ || owner_) return;
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

namespace {

int signal_pipe[2] = {-1, -1};

void NoteSignal(int signal) {
  auto byte = static_cast<unsigned char>(signal);
  [[maybe_unused]] ssize_t written = write(signal_pipe[1], &byte, 1);
}

void EndOnSignal(const std::function<void(int)>& first) {
  unsigned char byte = 0;
  while (read(signal_pipe[0], &byte, 1) != 1) {
  }
  if (first) first(byte);
  internal::KillAllChildren();
  if (has_process_directory) ThisProcessDirectory().Remove();
  std::signal(byte, SIG_DFL);
  raise(byte);
}

}  // namespace

void CleanUpOnSignals(std::function<void(int signal)> first) {
  if (pipe2(signal_pipe, O_CLOEXEC) != 0) return;  // then signals do what they do by default; the janitor cleans up
  std::thread([first = std::move(first)] { EndOnSignal(first); }).detach();
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before{};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_IGN) continue;  // nohup and background jobs of a shell
    struct sigaction action{};
    action.sa_handler = NoteSignal;
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace mayfly
