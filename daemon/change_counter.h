// A number that changes whenever something does, and a way to wait for that.
//
//   ChangeCounter changes;
//   changes.Bump();                                        // by whoever changed something
//   changes.WaitForOther(seen, socket.fd());               // by whoever has seen the state that `seen` was the number
//   of
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>

namespace mayfly::internal {

class ChangeCounter {
 public:
  void Bump();
  uint64_t value() const;

  // Returns when the number is another one than `seen`. Throws PeerGone when the other end of the socket `hang_up` is
  // closed first, HostLacks when there is no descriptor left to wait with.
  void WaitForOther(uint64_t seen, int hang_up);

 private:
  mutable std::mutex mutex_;
  uint64_t value_ = 1;
  std::set<int> waiters_;  // event descriptors
};

}  // namespace mayfly::internal
