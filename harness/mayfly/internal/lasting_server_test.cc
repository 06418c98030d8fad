#include <mayfly/internal/lasting_server.h>

#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <memory>
#include <vector>

namespace mayfly::internal {
namespace {

std::unique_ptr<Process> Sleep() { return std::make_unique<ChildProcess>(ChildOptions{.argv = {"sleep", "600"}}); }

// Starts servers, and tells of each.
class Starts {
 public:
  std::function<std::unique_ptr<Process>()> Of(const std::vector<std::string>& argv) {
    return [this, argv] {
      auto server = std::make_unique<ChildProcess>(ChildOptions{.argv = argv});
      if (++count == awaited) reached.set_value();
      return server;
    };
  }
  // Whether that many have been started within a moment.
  bool Reach(std::future<void>& future) {
    return future.wait_for(std::chrono::seconds(10)) == std::future_status::ready;
  }

  std::atomic<int> count = 0;
  int awaited = 0;
  std::promise<void> reached;
};

TEST(LastingServer, IsStartedAnewWhenItHasEnded) {
  Starts starts;
  starts.awaited = 2;
  auto reached = starts.reached.get_future();
  LastingServer server(starts.Of({"sleep", "600"}));
  EXPECT_EQ(starts.count, 1);
  server.Signal(SIGKILL);
  EXPECT_TRUE(starts.Reach(reached));
  EXPECT_FALSE(server.Poll()) << "it lasts";
}

TEST(LastingServer, OneThatEndsAtOnceIsGivenUp) {
  Starts starts;
  starts.awaited = 4;
  auto reached = starts.reached.get_future();
  LastingServer server(starts.Of({"true"}));
  EXPECT_TRUE(starts.Reach(reached));
  EXPECT_EQ(starts.count, 4) << "the first and three more";
}

TEST(LastingServer, TakesItsServerAlong) {
  pid_t pid = -1;
  {
    LastingServer server([&] {
      auto sleep = Sleep();
      pid = sleep->pid();
      return sleep;
    });
    EXPECT_EQ(server.pid(), pid);
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(LastingServer, WhatCannotBeStartedAtFirstThrows) {
  EXPECT_THROW(LastingServer([]() -> std::unique_ptr<Process> { throw HostLacks({.summary = "no such program"}); }),
               HostLacks);
}

}  // namespace
}  // namespace mayfly::internal
