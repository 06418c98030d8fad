// The agent's way to its host over vsock.
//
// The guest connects and the host listens, so neither has to ask whether the other is there yet: the host listens
// before the guest starts. The stream ends when the host hangs up, and when the guest goes on as a copy of the one that
// made it; then Connect makes another.
#pragma once

#include <functional>

#include "loop.h"

namespace mayfly::agent {

class VsockLink {
 public:
  // Connects to this port of the host, now or from the loop, and hands over the stream.
  VsockLink(Loop& loop, int port, std::function<void(UniqueFd stream)> connected);
  ~VsockLink();
  VsockLink(const VsockLink&) = delete;
  VsockLink& operator=(const VsockLink&) = delete;

  // The stream has ended: makes another one. Nothing when it is at that already.
  void Connect();

 private:
  void Finish();
  void TryLater();

  Loop& loop_;
  const int port_;
  const std::function<void(UniqueFd)> connected_;
  UniqueFd connecting_;
  Loop::TimerId later_ = 0;
};

}  // namespace mayfly::agent
