// The real agent as a child process on this host, connected by a socket: tests and benchmarks of the channel need no
// VM.
//
//   LocalAgent local(MAYFLY_AGENT_PROGRAM);
//   local.agent.Exec("true");
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <mayfly/agent.h>
#include <mayfly/errors.h>
#include <mayfly/events.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/unique_fd.h>

namespace mayfly::internal {

class AgentProcess {
 public:
  explicit AgentProcess(const std::string& program) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw HostLacks({.summary = "cannot make a socket pair"});
    socket_.Reset(ends[0]);
    UniqueFd theirs(ends[1]);
    ChildOptions options;
    options.argv = {program, "--fd", "3"};
    options.inherit = {{theirs.get(), 3}};
    child_ = std::make_unique<ChildProcess>(std::move(options));
  }

  UniqueFd TakeSocket() { return std::move(socket_); }
  ChildProcess& child() { return *child_; }

 private:
  UniqueFd socket_;
  std::unique_ptr<ChildProcess> child_;
};

// The same with a client that it has said hello to.
struct LocalAgent {
  explicit LocalAgent(const std::string& program) : process(program) {
    agent.WaitForHello(Deadline::After(std::chrono::seconds(10)));
  }

  Timeline timeline;
  AgentProcess process;
  Agent agent{process.TakeSocket(), timeline, {.name = "guest", .transcript = {}}};
};

}  // namespace mayfly::internal
