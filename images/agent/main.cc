// mayfly-agent: the program in the guest through which the host runs commands and moves files.
//
//   /init, as process 1 of an initramfs     sets the guest up, then serves on the virtio port
//   mayfly-agent --service                  serves on the virtio port of a system that has its own init
//   mayfly-agent --fd N                     serves on an open socket until its peer is gone
//   mayfly-agent --listen PATH              serves on a unix socket, one host after the other
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "init.h"
#include "machine.h"
#include "server.h"

namespace mayfly::agent {
namespace {

constexpr const char* kUsage =
    "usage: mayfly-agent --service | --fd N | --listen PATH | --version\n"
    "Without arguments, as process 1: sets up the guest and serves on the virtio port org.mayfly.agent.\n";

struct SignalMeaning {
  int signal;
  PowerChange change;
};

// What busybox's poweroff, halt and reboot and the kernel's ctrl-alt-del send to process 1.
constexpr SignalMeaning kSignalMeanings[] = {{SIGUSR2, PowerChange::kPowerOff},
                                             {SIGUSR1, PowerChange::kHalt},
                                             {SIGTERM, PowerChange::kReboot},
                                             {SIGINT, PowerChange::kReboot}};

int Fail(const std::string& what) {
  fprintf(stderr, "mayfly-agent: %s: %s\n", what.c_str(), strerror(errno));
  return 1;
}

int ServePort(bool is_init) {
  Loop loop;
  Server server(loop, is_init);
  loop.before_wait = [&server] { return server.Turn(); };
  loop.on_signal = [&](int signal) {
    if (!is_init && (signal == SIGTERM || signal == SIGINT)) return loop.Stop();
    for (const SignalMeaning& row : kSignalMeanings) {
      if (is_init && row.signal == signal) return BeginShutdown(loop, row.change);
    }
  };
  bool ready = false;
  auto tell_ready = [&] {
    if (is_init && !std::exchange(ready, true)) PrintOnConsole("VMRS_READY 0.0.0.0");
  };
  WhenPortAppears(loop, [&](UniqueFd port) {
    server.Attach(std::move(port), Channel::Kind::kPort);
    server.Turn();  // the hello first, then the console, which is slow
    tell_ready();
  });
  if (!HasVirtioConsole()) tell_ready();  // a guest without agent channel
  loop.Run();
  return 0;
}

void SetStopOnSignal(Loop& loop) {
  loop.on_signal = [&loop](int signal) {
    if (signal == SIGTERM || signal == SIGINT) loop.Stop();
  };
}

int ServeSocket(int fd) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return Fail("--fd " + std::to_string(fd));
  }
  Loop loop;
  Server server(loop, false);
  SetStopOnSignal(loop);
  loop.before_wait = [&] {
    bool more = server.Turn();
    if (!server.attached()) loop.Stop();
    return more;
  };
  server.Attach(UniqueFd(fd), Channel::Kind::kSocket);
  loop.Run();
  return 0;
}

int ServeListener(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return Fail(path);
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener || bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), 16) != 0) {
    return Fail(path);
  }
  Loop loop;
  Server server(loop, false);
  SetStopOnSignal(loop);
  bool accepting = false;
  loop.before_wait = [&] {
    bool more = server.Turn();
    bool wanted = !server.attached();
    if (wanted == accepting) return more;
    accepting = wanted;
    if (!wanted) {
      loop.Forget(listener.get());
      return more;
    }
    server.Detach();
    loop.Watch(listener.get(), EPOLLIN, [&](uint32_t) {
      UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (peer) server.Attach(std::move(peer), Channel::Kind::kSocket);
    });
    return more;
  };
  loop.Run();
  unlink(path.c_str());
  return 0;
}

int Main(int argc, char** argv) {
  std::string_view option = argc > 1 ? argv[1] : "";
  if (getpid() == 1 && option != "--service" && option != "--fd" && option != "--listen") {
    SetUpGuest();
    return ServePort(true);
  }
  // Descriptors 0 to 2 are never used for anything else (see Spawn).
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd <= 2) continue;
    close(fd);
    break;
  }
  if (option == "--service" && argc == 2) return ServePort(false);
  if (option == "--listen" && argc == 3) return ServeListener(argv[2]);
  if (option == "--fd" && argc == 3) {
    std::string_view text = argv[2];
    int fd = -1;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fd);
    if (error == std::errc() && end == text.data() + text.size() && fd > 2) return ServeSocket(fd);
  }
  if (option == "--version" && argc == 2) {
    puts("mayfly-agent " MAYFLY_VERSION);
    return 0;
  }
  fputs(kUsage, stderr);
  return 2;
}

}  // namespace
}  // namespace mayfly::agent

int main(int argc, char** argv) { return mayfly::agent::Main(argc, argv); }
