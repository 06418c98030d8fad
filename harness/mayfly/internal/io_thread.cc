
#include <mayfly/internal/io_thread.h>

#include <csignal>
#include <thread>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <boost/asio/executor_work_guard.hpp>

namespace mayfly::internal {
namespace {

struct IoThread {
  boost::asio::io_context context{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{context.get_executor()};
  std::thread::id id;

  IoThread() {
    // Signals are for the threads that asked for them, not for this one.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread thread([this] { context.run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    id = thread.get_id();
    thread.detach();
  }
};

IoThread& Instance() {
  static IoThread* instance = new IoThread;  // never deleted: its thread runs until the process ends
  return *instance;
}

}  // namespace

boost::asio::io_context& IoContext() { return Instance().context; }

bool OnIoThread() { return std::this_thread::get_id() == Instance().id; }

void RequireBlockingAllowed(std::string_view what) {
  if (!OnIoThread()) return;
  throw BadSpec({.summary = fmt::format("cannot {} on mayfly's I/O thread", what),
                 .notes = {"an on_output callback must not call a function that waits for the guest"},
                 .next_step = "hand the output over to another thread and call it there"});
}

}  // namespace mayfly::internal
