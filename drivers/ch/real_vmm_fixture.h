// The real Cloud Hypervisor, started for one test and listening on its API; the test is skipped where it is absent.
#pragma once

#include <gtest/gtest.h>
#include <mayfly/deadline.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/internal/unix_address.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "drivers/ch/api.h"
#include "drivers/ch/event_stream.h"

namespace mayfly::ch {
inline Deadline Soon() { return Deadline::After(Scaled(std::chrono::seconds(20))); }

inline std::string Program() {
  if (const char* named = std::getenv("MAYFLY_CLOUD_HYPERVISOR"); named != nullptr && *named != '\0') return named;
  auto found = internal::FindProgram("cloud-hypervisor");
  return found ? found->string() : "";
}

class RealVmm : public testing::Test {
 protected:
  void SetUp() override {
    if (Program().empty()) {
      GTEST_SKIP() << "not verified here: there is no cloud-hypervisor; put it on PATH, or set MAYFLY_CLOUD_HYPERVISOR";
    }
    StartVmm("first");
  }

  // Starts another one in the place of the last, which is ended first. Its files begin with `name`.
  void StartVmm(const std::string& name) {
    api_.reset();
    vmm_.reset();
    name_ = name;
    // It listens from its first moment on: the socket is made here and handed to it.
    internal::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = internal::UnixAddress(socket_path()).value();
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener.get(), 16), 0);
    constexpr int kListener = 3;
    vmm_.emplace(internal::ChildOptions{
        .argv = {Program(), "--api-socket", "fd=3", "--event-monitor", "path=" + events_path().string()},
        .stdout_path = directory_ / "log",
        .stderr_path = directory_ / "log",
        .inherit = {{listener.get(), kListener}}});
    api_.emplace(Api::Options{.socket = socket_path(), .pidfd = vmm_->pidfd()});
  }

  std::filesystem::path socket_path() const { return directory_ / (name_ + ".sock"); }
  std::filesystem::path events_path() const { return directory_ / (name_ + ".events"); }

  std::vector<std::string> Events() {
    std::ifstream file(events_path(), std::ios::binary);
    EventStream stream;
    std::vector<std::string> names;
    for (const VmmEvent& event : stream.Feed(std::string{std::istreambuf_iterator<char>(file), {}})) {
      names.push_back(event.source + "/" + event.name);
    }
    EXPECT_EQ(stream.skipped(), 0);
    return names;
  }

  internal::TestDirectory directory_;
  std::string name_;
  std::optional<internal::ChildProcess> vmm_;
  std::optional<Api> api_;
};

}  // namespace mayfly::ch
