// A channel to which the guest's agent connects: it outlives agents, and ends when its listener does.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/agent.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/error_of_fixture.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unix_address.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <utility>

namespace mayfly {
namespace {

using internal::ErrorOf;
using internal::UniqueFd;
using testing::HasSubstr;

Deadline Soon() { return Deadline::After(Scaled(std::chrono::seconds(10))); }

class AgentListen : public testing::Test {
 protected:
  AgentListen() {
    const sockaddr_un address = internal::UnixAddress(path_).value();
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
  }

  std::unique_ptr<internal::ChildProcess> StartAgent() {
    UniqueFd stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = internal::UnixAddress(path_).value();
    EXPECT_EQ(connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return std::make_unique<internal::ChildProcess>(
        internal::ChildOptions{.argv = {MAYFLY_AGENT_PROGRAM, "--fd", "3"}, .inherit = {{stream.get(), 3}}});
  }

  UniqueFd Listener() { return UniqueFd(fcntl(listener_.get(), F_DUPFD_CLOEXEC, 3)); }

  internal::TestDirectory directory_;
  std::filesystem::path path_ = directory_ / "agent.sock";
  UniqueFd listener_{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  Timeline timeline_;
};

TEST_F(AgentListen, MeetsTheAgentWhenItConnects) {
  Agent agent(Listener(), timeline_, {.name = "guest", .transcript = {}});
  auto process = StartAgent();
  agent.WaitForHello(Soon());
  EXPECT_EQ(agent.Exec("echo hello").OrThrow().out, "hello\n");
}

TEST_F(AgentListen, GoesOnWithTheNextAgent) {
  Agent agent(Listener(), timeline_, {.name = "guest", .transcript = {}});
  auto process = StartAgent();
  uint64_t first = agent.WaitForHello(Soon()).session;
  GuestProcess waiting = agent.Start("sleep 100");
  process->Kill();
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { waiting.Wait(std::chrono::seconds(10)); }), HasSubstr("hung up"));
  EXPECT_TRUE(agent.connected());
  process = StartAgent();
  EXPECT_NE(agent.WaitForHello(Soon()).session, first);
  EXPECT_EQ(agent.Exec("echo again").OrThrow().out, "again\n");
}

TEST_F(AgentListen, EndsWhenNobodyListensAnyMore) {
  Agent agent(Listener(), timeline_, {.name = "guest", .transcript = {}});
  auto process = StartAgent();
  uint64_t session = agent.WaitForHello(Soon()).session;
  shutdown(listener_.get(), SHUT_RDWR);
  EXPECT_EQ(agent.Exec("echo hello").OrThrow().out, "hello\n") << "a stream that is there goes on";
  process->Kill();
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.WaitForHello(Soon(), session); }), HasSubstr("was closed"));
  EXPECT_FALSE(agent.connected());
}

TEST_F(AgentListen, EndsBeforeAnyAgentHasCome) {
  Agent agent(Listener(), timeline_, {.name = "guest", .transcript = {}});
  shutdown(listener_.get(), SHUT_RDWR);
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.WaitForHello(Soon()); }), HasSubstr("was closed"));
}

}  // namespace
}  // namespace mayfly
