// What concerns the guest as a whole: sync and power. What a copy of a guest needs is in fork.cc.
#include "machine.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <utility>

#include "operations.h"
#include "spawn.h"

namespace mayfly::agent {
namespace {

constexpr Milliseconds kTermination(2000);  // between SIGTERM and SIGKILL for all processes
constexpr Milliseconds kLastWords(500);     // for the answer to reach the host

// sync(2) may take long, so a child does it while the loop goes on.
class Sync : public Request {
 public:
  using Request::Request;
  ~Sync() override {
    if (child_ > 0) server_.loop().ForgetChild(child_);
  }
  void Begin() {
    child_ = fork();
    if (child_ < 0) return Fail(errno, "fork");
    if (child_ == 0) {
      sync();
      _exit(0);
    }
    server_.loop().AwaitChild(child_, [this](int) {
      child_ = -1;
      Done();
    });
  }

 private:
  pid_t child_ = -1;
};

std::unique_ptr<Request> ChangePower(Server& server, uint64_t id, PowerChange change) {
  auto request = std::make_unique<Immediate>(server, id);
  if (server.is_init()) {
    request->Done();
    server.channel().Drain(kLastWords);
    BeginShutdown(server.loop(), change);
    return request;
  }
  SpawnOptions options;
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int& fd : options.fds) fd = null.get();
  options.argv = {"systemctl", "--no-block", change == PowerChange::kReboot ? "reboot" : "poweroff"};
  options.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  options.directory = "/";
  SpawnResult result = Spawn(options);
  result.error == 0 ? request->Done() : request->Fail(result.error, "systemctl");
  return request;
}

[[noreturn]] void EndMachine(PowerChange change) {
  // Whatever is mounted is made read-only, so that file systems are clean; then the rest is written.
  mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
  sync();
  const unsigned command = change == PowerChange::kReboot ? RB_AUTOBOOT
                           : change == PowerChange::kHalt ? RB_HALT_SYSTEM
                                                          : RB_POWER_OFF;
  reboot(static_cast<int>(command));
  for (;;) pause();
}

}  // namespace

void BeginShutdown(Loop& loop, PowerChange change) {
  loop.on_signal = nullptr;
  // Orphans become children of process 1, so all are gone when no child is left.
  loop.on_children = [&loop, change] {
    if (!loop.HasChildren()) EndMachine(change);
  };
  kill(-1, SIGTERM);
  kill(-1, SIGCONT);
  loop.After(kTermination, [&loop, change] {
    kill(-1, SIGKILL);
    loop.After(kTermination, [change] { EndMachine(change); });
  });
  loop.on_children();
}

std::unique_ptr<Request> StartSync(Server& server, uint64_t id, const Message& /*message*/, std::string_view /*body*/) {
  auto sync = std::make_unique<Sync>(server, id);
  sync->Begin();
  return sync;
}

std::unique_ptr<Request> StartPowerOff(Server& server, uint64_t id, const Message& /*message*/,
                                       std::string_view /*body*/) {
  return ChangePower(server, id, PowerChange::kPowerOff);
}

std::unique_ptr<Request> StartReboot(Server& server, uint64_t id, const Message& /*message*/,
                                     std::string_view /*body*/) {
  return ChangePower(server, id, PowerChange::kReboot);
}

}  // namespace mayfly::agent
