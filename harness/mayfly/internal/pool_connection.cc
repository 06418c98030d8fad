#include <mayfly/internal/installed_program.h>
#include <mayfly/internal/pool_connection.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/pool_protocol.h>
#include <mayfly/sandbox.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <system_error>

extern char** environ;

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr auto kHandshake = seconds(10);
constexpr auto kStart = seconds(20);

// What a daemon takes from the environment of the process that started it.
constexpr std::array kSharedVariables = {"PATH",
                                         "HOME",
                                         "MAYFLY_CACHE_DIR",
                                         "XDG_CACHE_HOME",
                                         "MAYFLY_DRIVER",
                                         "MAYFLY_QEMU",
                                         "MAYFLY_KVM",
                                         "MAYFLY_DATA_DIR",
                                         "MAYFLY_POOL_IDLE",
                                         "MAYFLY_ACCEL",
                                         "MAYFLY_POOL_WARM",
                                         "MAYFLY_POOL_MEMORY",
                                         "MAYFLY_POOL_CPUS"};

const char* Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::string ErrnoText(int error) { return std::generic_category().message(error); }

// A connection whose daemon has answered; nothing when none listens, or it was leaving at this moment.
std::unique_ptr<PoolConnection> TryOpen(const PoolFiles& pool) {
  std::optional<UniqueFd> fd = ConnectTo(pool);
  if (!fd) return nullptr;
  if (PeerUser(fd->get()) != getuid()) {
    throw HostLacks(
        {.summary = fmt::format("the pool at {} is served by user {}", pool.socket().string(), PeerUser(fd->get())),
         .next_step = "set MAYFLY_RUNTIME_DIR to a directory that is yours alone"});
  }
  pid_t daemon = PeerProcess(fd->get());
  try {
    return std::make_unique<PoolConnection>(std::move(*fd));
  } catch (const Timeout&) {
    throw HostLacks({.summary = fmt::format("mayflyd (process {}) does not answer", daemon),
                     .notes = {fmt::format("its socket is {}", pool.socket().string())},
                     .next_step = fmt::format("end it with `kill -9 {}`, or set MAYFLY_POOL=off", daemon)});
  } catch (const PeerGone&) {
    return nullptr;
  }
}

// The last words of a daemon that could not start.
std::string ReadAll(int fd, Deadline deadline) {
  std::string text;
  std::array<char, 1024> buffer{};
  pollfd waiting{fd, POLLIN, 0};
  while (text.size() < 16384) {
    int ready = poll(&waiting, 1, deadline.RemainingForPoll());
    if (ready == 0 && deadline.Passed()) {
      throw HostLacks({.summary = fmt::format("mayflyd was not ready within {}", ForPeople(Duration(kStart)))});
    }
    if (ready <= 0) continue;
    ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count == 0 || (count < 0 && errno != EINTR)) break;
    if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
  }
  return text;
}

// Starts the daemon in a session of its own, without any of our descriptors but the lock, and waits until it listens.
// Until then the daemon holds the lock as well: should this process die now, nobody starts another one beside it.
void StartDaemon(const fs::path& program, const PoolFiles& files, const UniqueFd& lock) {
  const fs::path output = files.Path(".out");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw HostLacks({.summary = "cannot start mayflyd: " + ErrnoText(errno)});
  UniqueFd reader(ends[0]), writer(ends[1]);
  // Above the numbers that they get, so that neither takes the other's place.
  UniqueFd reports(fcntl(writer.get(), F_DUPFD_CLOEXEC, kStartLockDescriptor + 1));
  UniqueFd held(fcntl(lock.get(), F_DUPFD_CLOEXEC, kStartLockDescriptor + 1));
  if (!reports || !held) throw HostLacks({.summary = "cannot start mayflyd: " + ErrnoText(errno)});
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, reports.get(), kReadyDescriptor);
  posix_spawn_file_actions_adddup2(&actions, held.get(), kStartLockDescriptor);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, kStartLockDescriptor + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::string path = program.string();
  std::string pool = files.name;
  std::string flag = "--name", detach = "--detach";
  std::array<char*, 5> argv = {path.data(), flag.data(), pool.data(), detach.data(), nullptr};
  pid_t child = -1;
  int error = posix_spawn(&child, path.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  writer.Reset();
  reports.Reset();
  if (error != 0) throw HostLacks({.summary = fmt::format("cannot start {}: {}", path, ErrnoText(error))});
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  KillPoint("daemon.started", {.test = getpid()});
  std::string words = ReadAll(reader.get(), Deadline::After(Scaled(kStart)));
  if (words == "ready\n") return;
  throw HostLacks({.summary = "mayflyd could not start",
                   .notes = {words.empty() ? fmt::format("it ended without a word; see {}", output.string()) : words},
                   .next_step = "MAYFLY_POOL=off does without it"});
}

PoolFiles ThisPool() { return {.name = PoolName(), .directory = RuntimeDirectory()}; }

}  // namespace

PoolMode ChosenPoolMode() {
  const char* value = Environment("MAYFLY_POOL");
  std::string_view mode = value != nullptr ? value : "on";
  if (mode == "on") return PoolMode::kDaemon;
  if (mode == "off") return PoolMode::kInProcess;
  throw BadSpec({.summary = fmt::format("MAYFLY_POOL: \"{}\" is not a mode; allowed: on, off", mode)});
}

fs::path DaemonProgram() { return InstalledProgram("mayflyd", "MAYFLY_DAEMON"); }

std::string PoolName() {
  fs::path program = DaemonProgram();
  struct stat status{};
  if (stat(program.c_str(), &status) != 0) {
    throw HostLacks({.summary = fmt::format("{}: {}", program.string(), ErrnoText(errno))});
  }
  std::string identity = fmt::format("{}\n{}\n{}\n{}.{}\n", kPoolProtocol, program.string(), status.st_size,
                                     status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  for (const char* variable : kSharedVariables) {
    const char* value = Environment(variable);
    identity += fmt::format("{}={}\n", variable, value != nullptr ? value : "");
  }
  return fmt::format("pool-{:012x}", XXH3_64bits(identity.data(), identity.size()) >> 16);
}

std::unique_ptr<PoolConnection> PoolConnection::OpenIfRunning() { return TryOpen(ThisPool()); }

std::unique_ptr<PoolConnection> PoolConnection::Open() {
  if (ChosenPoolMode() == PoolMode::kInProcess) {
    auto [ours, theirs] = SocketPair();
    ServeInThisProcess(std::move(theirs));
    return std::make_unique<PoolConnection>(std::move(ours));
  }
  PoolFiles pool = ThisPool();
  if (auto connection = TryOpen(pool)) return connection;
  // Those who come at once wait here for the first; it is under this lock as well that an idle daemon leaves.
  UniqueFd lock = LockStart(pool);
  if (auto connection = TryOpen(pool)) return connection;
  StartDaemon(DaemonProgram(), pool, lock);
  if (auto connection = TryOpen(pool)) return connection;
  throw HostLacks({.summary = "mayflyd started and went away at once",
                   .notes = {fmt::format("its log is {}", pool.log().string())}});
}

PoolConnection::PoolConnection(UniqueFd socket, Duration patience) : socket_(std::move(socket)) {
  Deadline deadline = Deadline::After(Scaled(patience));
  try {
    socket_.Send({{"op", "hello"},
                  {"protocol", kPoolProtocol},
                  {"version", MAYFLY_VERSION},
                  {"program", program_invocation_short_name}},
                 deadline);
  } catch (const PeerGone&) {
    // A pool that refuses us says why and closes at once; its words are still there to be read.
  }
  std::optional<Message> reply = socket_.Receive(deadline);
  if (!reply) throw PeerGone({.summary = "the pool closed the connection"});
  if (reply->body.contains("error")) ThrowFromJson(reply->body["error"]);
  daemon_pid_ = reply->body.value("pid", -1);
}

Message PoolConnection::Call(const nlohmann::json& request, std::span<const int> descriptors, Deadline deadline,
                             const std::function<void(const nlohmann::json& waiting)>& on_wait) {
  std::lock_guard lock(mutex_);
  socket_.Send(request, descriptors, Deadline::After(Scaled(kHandshake)));
  std::optional<Message> reply = socket_.Receive(deadline);
  while (reply && reply->body.contains("waiting")) {
    if (on_wait) on_wait(reply->body["waiting"]);
    reply = socket_.Receive(deadline);
  }
  if (!reply) {
    throw PeerGone({.summary = fmt::format("the pool daemon (mayflyd, process {}) has gone away", daemon_pid_),
                    .next_step = "its log is in the runtime directory, `mayfly doctor` tells where"});
  }
  if (reply->body.contains("error")) ThrowFromJson(reply->body["error"]);
  return std::move(*reply);
}

}  // namespace mayfly::internal
