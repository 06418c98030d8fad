// The one thread of this process on which mayfly's sockets are read and written.
//
// State of a connection (QMP, agent, forwarded ports) belongs to this thread: it is touched by handlers of IoContext()
// only, so it needs no locks. Public functions that block hand their request over by RunOnIoThread or post, and wait on
// another thread. Children are forked here as well, because PDEATHSIG follows the thread that forked.
//
// The thread starts on first use and is never stopped: it ends with the process, so no destructor runs after it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <string_view>
#include <type_traits>
#include <utility>

namespace mayfly::internal {

boost::asio::io_context& IoContext();

bool OnIoThread();

// Runs `function` on the I/O thread, waits for it, and returns or throws what it does. On the I/O thread itself: calls
// it.
template <typename Function>
auto RunOnIoThread(Function function) -> std::invoke_result_t<Function> {
  if (OnIoThread()) return function();
  std::packaged_task<std::invoke_result_t<Function>()> task(std::move(function));
  auto result = task.get_future();
  boost::asio::post(IoContext(), [&task] { task(); });
  return result.get();
}

// Throws unless the calling thread may block for an answer.
void RequireBlockingAllowed(std::string_view what);

}  // namespace mayfly::internal
