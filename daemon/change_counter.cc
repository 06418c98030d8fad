#include "daemon/change_counter.h"

#include <mayfly/errors.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/unique_fd.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>

namespace mayfly::internal {

void ChangeCounter::Bump() {
  std::lock_guard lock(mutex_);
  ++value_;
  for (int waiter : waiters_) eventfd_write(waiter, 1);
}

uint64_t ChangeCounter::value() const {
  std::lock_guard lock(mutex_);
  return value_;
}

void ChangeCounter::WaitForOther(uint64_t seen, int hang_up) {
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) throw HostLacks({.summary = "cannot wait: no free file descriptor"});
  std::unique_lock lock(mutex_);
  waiters_.insert(wake.get());
  std::array<pollfd, 2> waiting = {pollfd{wake.get(), POLLIN, 0}, pollfd{hang_up, POLLRDHUP, 0}};
  while (value_ == seen && waiting[1].revents == 0) {
    lock.unlock();
    poll(waiting.data(), waiting.size(), -1);
    eventfd_t ignored = 0;
    eventfd_read(wake.get(), &ignored);
    lock.lock();
  }
  waiters_.erase(wake.get());
  if (waiting[1].revents != 0) throw PeerGone({.summary = "nobody waits for a change any more"});
}

}  // namespace mayfly::internal
