#include <mayfly/internal/lasting_server.h>

#include <fcntl.h>
#include <mayfly/errors.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

namespace mayfly::internal {
namespace {

constexpr int kMostFailures = 3;
// One that has lived less had no client.
constexpr auto kNoTime = std::chrono::milliseconds(50);

}  // namespace

LastingServer::LastingServer(std::function<std::unique_ptr<Process>()> start)
    : start_(std::move(start)), stop_(eventfd(0, EFD_CLOEXEC)), server_(start_()) {
  pid_ = server_->pid();
  pidfd_.Reset(fcntl(server_->pidfd(), F_DUPFD_CLOEXEC, 3));
  watch_ = std::thread([this] { Watch(); });
}

LastingServer::~LastingServer() {
  eventfd_write(stop_.get(), 1);
  watch_.join();
}

std::optional<ExitStatus> LastingServer::Poll() { return std::nullopt; }

void LastingServer::Signal(int signal) {
  std::lock_guard lock(mutex_);
  if (server_) server_->Signal(signal);
}

bool LastingServer::AwaitEnd(const Process& server) const {
  std::array<pollfd, 2> watched = {pollfd{stop_.get(), POLLIN, 0}, pollfd{server.pidfd(), POLLIN, 0}};
  while (poll(watched.data(), watched.size(), -1) < 0 && errno == EINTR) {
  }
  return watched[0].revents == 0;
}

void LastingServer::Watch() {
  int failures = 0;
  while (failures < kMostFailures) {
    const auto began = std::chrono::steady_clock::now();
    if (!AwaitEnd(*server_)) return;
    failures = std::chrono::steady_clock::now() - began < kNoTime ? failures + 1 : 0;
    std::unique_ptr<Process> next;
    try {
      next = start_();
    } catch (const Error&) {
      break;  // the host lacks it now, or whoever owns this is going
    }
    std::lock_guard lock(mutex_);
    server_ = std::move(next);
  }
  std::lock_guard lock(mutex_);
  server_.reset();
}

}  // namespace mayfly::internal
