// What the tests of the pool have in common: a runtime directory of their own, and waits for what a death leaves.
#pragma once

#include <gtest/gtest.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/pool_connection.h>
#include <mayfly/internal/pool_directory.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace mayfly::internal {

inline Deadline Soon() { return Deadline::After(Scaled(std::chrono::seconds(20))); }

inline bool Readable(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  return poll(&waiting, 1, Soon().RemainingForPoll()) == 1;
}

// Blocks until `path` is gone from its directory; false when that takes too long.
inline bool WaitUntilGone(const std::filesystem::path& path) {
  UniqueFd watch(inotify_init1(IN_CLOEXEC));
  if (inotify_add_watch(watch.get(), path.parent_path().c_str(), IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF) < 0) {
    return !std::filesystem::exists(path);
  }
  while (std::filesystem::exists(path)) {
    if (!Readable(watch.get())) return false;
    char buffer[4096];
    [[maybe_unused]] ssize_t got = read(watch.get(), buffer, sizeof buffer);
  }
  return true;
}

inline std::string Slurp(const std::filesystem::path& path) {
  std::stringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

// A process has one runtime directory; each test ends the daemon that it started there.
class PoolFixture : public testing::Test {
 protected:
  void SetUp() override {
    Set("MAYFLY_RUNTIME_DIR", runtime().string());
    Set("MAYFLY_POOL", "on");
    Set("MAYFLY_POOL_IDLE", "60");
    for (const char* name : {"MAYFLY_DAEMON", "MAYFLY_POOL_MEMORY", "MAYFLY_POOL_CPUS", "MAYFLY_POOL_WAIT"}) {
      unsetenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    }
    std::filesystem::create_directories(runtime());
    std::filesystem::permissions(runtime(), std::filesystem::perms(0700));
  }

  void TearDown() override { StopDaemons(); }

  // All of the runtime directory: each change of the environment makes another one.
  static void StopDaemons() {
    for (FoundPool& pool : FindPools()) {
      if (!pool.connection) continue;
      UniqueFd daemon = OpenPidFd(pool.pid);
      pool.connection->Call({{"op", "stop"}});
      EXPECT_TRUE(Readable(daemon.get())) << "mayflyd did not stop";
    }
  }

  static nlohmann::json Status() { return PoolConnection::Open()->Call({{"op", "status"}}).body; }

  // Returns when the pool has so many forks "warm", or VMMs "started", by its own word and no other clock.
  static void Await(const char* what, size_t count) {
    auto watch = PoolConnection::Open();
    nlohmann::json status = watch->Call({{"op", "status"}}).body;
    while (status.at("forks").at(what) != count) {
      status = watch->Call({{"op", "watch"}, {"seen", status.at("change")}}, {}, Soon()).body;
    }
  }

  static void Set(const char* name, const std::string& value) {
    setenv(name, value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): before threads look at it
  }
  static std::filesystem::path runtime() { return root() / "rt"; }
  static const std::filesystem::path& root() {
    static const Root root;
    return root.path;
  }

 private:
  struct Root {
    Root() {
      char pattern[] = "/tmp/mfpool-XXXXXX";
      path = mkdtemp(pattern);
    }
    ~Root() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  };
};

}  // namespace mayfly::internal
