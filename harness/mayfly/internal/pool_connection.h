// The way from a test process to the pool.
//
//   std::unique_ptr<PoolConnection> pool = PoolConnection::Open();
//   Message reply = pool->Call({{"op", "status"}});            // throws what the pool threw
//
// Open finds the user's mayflyd, or starts it: fifty processes that start at once get one daemon. MAYFLY_POOL=off
// serves the connection by a thread of this process instead, with the same code; then nothing is shared between
// processes but the templates on disk.
//
// A daemon serves clients of one runtime directory that see the same mayflyd, programs and directories; others get one
// of their own, side by side. Its files there are <Name()>.sock, .log and .out, and .start, the lock of those who start
// it.
//
// Thread-safe; requests are answered one after another.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/message_socket.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace mayfly::internal {

enum class PoolMode { kDaemon, kInProcess };

// From MAYFLY_POOL: "on" (default) or "off". Throws BadSpec for anything else.
PoolMode ChosenPoolMode();

// "pool-" and 12 hexadecimal digits: what this process's daemon calls its files. Throws HostLacks without a mayflyd.
std::string PoolName();

// What a daemon is started with: a pipe for whether it is ready ("ready\n", else why not), and the lock of those who
// start it, which it gives up when it is.
constexpr int kReadyDescriptor = 3;
constexpr int kStartLockDescriptor = 4;

// $MAYFLY_DAEMON, else the one that was built or installed with this library. Throws HostLacks when there is none.
std::filesystem::path DaemonProgram();

class PoolConnection {
 public:
  // Throws HostLacks when the daemon cannot be started or does not answer (with its own last words), BadSpec.
  static std::unique_ptr<PoolConnection> Open();
  // A connection to the daemon if it runs now; nothing otherwise.
  static std::unique_ptr<PoolConnection> OpenIfRunning();
  // On a connected socket whose other end is served by a pool.
  explicit PoolConnection(UniqueFd socket, Duration patience = std::chrono::seconds(10));

  // Sends a request and waits for its reply. `on_wait` is called with what the pool says meanwhile about who is in the
  // way. Throws the error of the reply; PeerGone when the pool has gone away; Timeout.
  Message Call(const nlohmann::json& request, std::span<const int> descriptors = {},
               Deadline deadline = Deadline::Never(),
               const std::function<void(const nlohmann::json& waiting)>& on_wait = {});

  pid_t daemon_pid() const { return daemon_pid_; }
  // For what is no call.
  MessageSocket& socket() { return socket_; }

 private:
  std::mutex mutex_;
  MessageSocket socket_;
  pid_t daemon_pid_ = -1;
};

// Serves `connection` in this process. Defined by daemon/.
void ServeInThisProcess(UniqueFd connection);

}  // namespace mayfly::internal
