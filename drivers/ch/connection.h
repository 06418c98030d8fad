// One connection to Cloud Hypervisor's API: a request, its answer, the next request.
//
// Everything waits in poll(2) on the calling thread, for the socket and for the end of the VMM together: the API is
// served by one thread that is silent while the VMM works, so silence says nothing about whether it lives, and its
// pidfd does. This side is never shut down for writing alone: the server drops answers that it still owes then.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "drivers/ch/answer.h"

namespace mayfly::ch {

// One call's view of the VMM: who it is and until when to wait for it.
struct CallContext {
  std::string endpoint{};  // "vm.boot", for messages
  int pidfd = -1;          // of the VMM; -1: not known
  Deadline deadline;
};

class Connection {
 public:
  // Throws HostLacks when there is no such socket, VmmDied when nobody listens on it, Timeout.
  Connection(const std::filesystem::path& socket, const CallContext& call);

  // Whether another request may be sent: nothing has come and nothing is closed since the last answer.
  bool Usable() const;

  // Sends the request, with the descriptors, and reads its answer. Throws Timeout, VmmDied, BadAnswer; the connection
  // is of no use after any of them.
  Answer Exchange(const std::string& request, std::span<const int> descriptors, size_t max_body,
                  const CallContext& call);

 private:
  bool Send(const std::string& request, std::span<const int> descriptors, const CallContext& call);
  // Returns when the socket is ready. Throws Timeout, and VmmDied when the process ended and nothing is left to read.
  void Await(short events, const CallContext& call) const;

  internal::UniqueFd socket_;
};

// Waits for the end of the VMM, at most until `deadline`. False when it lives on, or is not known.
bool AwaitEnd(int pidfd, Deadline deadline);

}  // namespace mayfly::ch
