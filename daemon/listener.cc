#include "daemon/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/pool_protocol.h>
#include <mayfly/internal/unix_address.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

namespace mayfly::internal {
namespace {

// Who holds the lock of those who start a daemon connects within about this time.
constexpr Duration kStartTime = std::chrono::milliseconds(100);

std::string ErrnoText(int error) { return std::generic_category().message(error); }

// Removes the socket of a daemon that has died. Nothing else with that name is ours to remove.
void RemoveStaleSocket(const std::string& path, int probe) {
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0) return;
  if (!S_ISSOCK(status.st_mode)) {
    throw BadSpec({.summary = fmt::format("{} is in the way: it is no socket", path),
                   .next_step = "remove it, or set MAYFLY_RUNTIME_DIR to another directory"});
  }
  const sockaddr_un address = UnixAddress(path).value();  // RuntimeDirectory leaves room for it
  if (connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    throw HostLacks({.summary = fmt::format("a daemon listens at {} already", path)});
  }
  unlink(path.c_str());
}

UniqueFd MakeSocket() { return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

}  // namespace

Listener::Listener(const std::filesystem::path& directory, const std::string& name)
    : files_{.name = name, .directory = directory},
      socket_(MakeSocket()),
      spare_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {
  std::string path = files_.socket().string();
  UniqueFd probe = MakeSocket();
  RemoveStaleSocket(path, probe.get());
  const sockaddr_un address = UnixAddress(path).value();  // RuntimeDirectory leaves room for it
  bound_ = bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (!bound_ || listen(socket_.get(), SOMAXCONN) != 0) {
    int error = errno;
    if (bound_) unlink(path.c_str());
    throw HostLacks({.summary = fmt::format("cannot listen at {}: {}", path, ErrnoText(error))});
  }
}

Listener::~Listener() { TakeAway(); }

void Listener::TakeAway() {
  if (!bound_) return;
  unlink(files_.socket().c_str());
  socket_.Reset();  // those who wait to be accepted are cut off, and start another
  bound_ = false;
}

void Listener::Accept(PoolServer& pool) {
  UniqueFd connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  bool refused = false;
  if (!connection && (errno == EMFILE || errno == ENFILE) && spare_) {
    spare_.Reset();
    connection.Reset(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    refused = true;
  }
  if (connection && PeerUser(connection.get()) != getuid()) {
    pool.log().Write("stranger-refused", {{"user", PeerUser(connection.get())}});
  } else if (connection && refused) {
    HostLacks full({.summary = fmt::format("mayflyd (process {}) has no free file descriptors", getpid()),
                    .next_step = "use fewer VMs at once, or raise the limit (ulimit -n) and run `mayfly pool stop`"});
    pool.log().Write("out-of-descriptors");
    try {
      MessageSocket(std::move(connection)).Send({{"error", ToJson(full)}}, Deadline::After(Duration::zero()));
    } catch (const Error&) {
      // It has gone already.
    }
  } else if (connection) {
    pool.Serve(std::move(connection));
  }
  if (refused) spare_.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

// Takes the socket away unless somebody is about to come. Without its directory nobody finds it any more.
bool Listener::LeaveIfNobodyComes() {
  std::error_code unknown;
  bool reachable = std::filesystem::exists(files_.directory, unknown) || unknown;
  std::optional<UniqueFd> lock = TryLockStart(files_);
  if (!lock && reachable) return false;
  TakeAway();
  return true;
}

std::string Listener::Run(PoolServer& pool, Duration idle) {
  std::string why = Serve(pool, idle);
  TakeAway();
  return why;
}

std::string Listener::Serve(PoolServer& pool, Duration idle) {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  std::array<pollfd, 3> waiting = {pollfd{socket_.get(), POLLIN, 0}, pollfd{pool.event(), POLLIN, 0},
                                   pollfd{signal_fd.get(), POLLIN, 0}};
  Deadline leave = Deadline::After(idle);
  while (true) {
    int ready = poll(waiting.data(), waiting.size(), pool.idle() ? leave.RemainingForPoll() : -1);
    if (ready < 0 && errno != EINTR) throw HostLacks({.summary = "poll: " + ErrnoText(errno)});
    if (ready == 0 && pool.idle() && leave.Passed()) {
      if (LeaveIfNobodyComes()) return "idle";
      leave = Deadline::After(std::max<Duration>(idle, kStartTime));
    }
    if (ready <= 0) continue;
    if (waiting[2].revents != 0) {
      signalfd_siginfo info{};
      if (read(signal_fd.get(), &info, sizeof info) == sizeof info) {
        return fmt::format("SIG{}", sigabbrev_np(static_cast<int>(info.ssi_signo)));
      }
    }
    if (waiting[1].revents != 0) {
      eventfd_t count = 0;
      eventfd_read(pool.event(), &count);
      if (pool.stop_requested()) return "asked to";
      leave = Deadline::After(idle);
    }
    if (waiting[0].revents != 0) Accept(pool);
  }
}

}  // namespace mayfly::internal
