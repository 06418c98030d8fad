#include "channel.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mayfly::agent {

using internal::agent::Frame;
using internal::agent::kFixedHeader;

Channel::Channel(Loop& loop, UniqueFd fd, Kind kind) : loop_(loop), fd_(std::move(fd)), kind_(kind) {
  loop_.Watch(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, [this](uint32_t events) { OnEvent(events); });
}

Channel::~Channel() { loop_.Forget(fd_.get()); }

void Channel::OnEvent(uint32_t events) {
  if (kind_ == Kind::kPort && (events & EPOLLHUP) != 0) return Lose();
  // Without a hang-up anything may have become possible again, a host that came back included.
  lost_ = false;
  readable_ = writable_ = true;
}

void Channel::Lose() {
  begin_ = end_ = 0;
  reader_.Reset();
  readable_ = writable_ = false;
  if (!std::exchange(lost_, true) && on_lost) on_lost();
}

bool Channel::Turn() {
  bool more = Read();
  Write();
  if (was_congested_ && !congested()) {
    was_congested_ = false;
    if (on_room) on_room();
    Write();
  }
  return more;
}

bool Channel::Read() {
  for (int reads = 0; readable_; ++reads) {
    if (congested()) return false;  // reading goes on when the host has read
    if (reads == kReadsATurn) return true;
    std::span<char> space = reader_.Space();
    ssize_t count = read(fd_.get(), space.data(), space.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) readable_ = false;
    if (count == 0 && kind_ == Kind::kPort) readable_ = false;  // no host
    if ((count == 0 || (count < 0 && errno != EAGAIN)) && kind_ == Kind::kSocket) Lose();
    if (count <= 0) return false;
    reader_.Filled(static_cast<size_t>(count));
    while (std::optional<Frame> frame = reader_.Next()) on_frame(*frame);
  }
  return false;
}

void Channel::Write() {
  while (writable_ && begin_ < end_) {
    ssize_t count = write(fd_.get(), buffer_.get() + begin_, end_ - begin_);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      writable_ = false;
      // A port without a host says EAGAIN; what waits is sent when one comes, unless a hang-up is reported first.
      if (count < 0 && errno != EAGAIN && kind_ == Kind::kSocket) Lose();
      break;
    }
    begin_ += static_cast<size_t>(count);
  }
  if (begin_ == end_) begin_ = end_ = 0;
}

void Channel::Drain(Milliseconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  while (begin_ < end_ && !lost_) {
    auto left = std::chrono::duration_cast<Milliseconds>(end - std::chrono::steady_clock::now());
    pollfd wait{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
    if (left.count() <= 0 || poll(&wait, 1, static_cast<int>(left.count())) <= 0 || (wait.revents & POLLHUP) != 0)
      return;
    writable_ = true;
    Write();
  }
}

char* Channel::Room(size_t count) {
  if (capacity_ - end_ < count) {
    size_t waiting = end_ - begin_;
    if (capacity_ < waiting + count) {
      capacity_ = std::max(2 * capacity_, waiting + count + (64 << 10));
      std::unique_ptr<char[]> larger(new char[capacity_]);
      if (waiting > 0) memcpy(larger.get(), buffer_.get() + begin_, waiting);
      buffer_ = std::move(larger);
    } else {
      memmove(buffer_.get(), buffer_.get() + begin_, waiting);
    }
    begin_ = 0;
    end_ = waiting;
  }
  return buffer_.get() + end_;
}

std::span<char> Channel::Begin(std::string_view header, size_t room) {
  open_header_ = header;
  size_t before = kFixedHeader + header.size();
  char* start = Room(before + room);
  memcpy(start + kFixedHeader, header.data(), header.size());
  return {start + before, room};
}

void Channel::Commit(size_t used) {
  internal::agent::WriteFixedHeader(buffer_.get() + end_, internal::agent::kMagic, open_header_, used);
  end_ += kFixedHeader + open_header_.size() + used;
  if (congested()) was_congested_ = true;
}

void Channel::Send(std::string_view header, std::string_view body) {
  std::span<char> space = Begin(header, body.size());
  if (!body.empty()) memcpy(space.data(), body.data(), body.size());
  Commit(body.size());
}

void Channel::SendGreeting(std::string_view header) {
  std::string frame = internal::agent::MakeGreeting(header);
  memcpy(Room(frame.size()), frame.data(), frame.size());
  end_ += frame.size();
}

}  // namespace mayfly::agent
