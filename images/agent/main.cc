// mayfly-agent: the program in the guest through which the host runs commands and moves files.
//
//   /init, as process 1 of an initramfs     sets the guest up, then serves its host
//   mayfly-agent --service                  serves the host of a system that has its own init
//   mayfly-agent --fd N                     serves on an open socket until its peer is gone
//   mayfly-agent --listen PATH              serves on a unix socket, one host after the other
//   mayfly-agent --vsock listen PORT CMD…   runs a command on a stream from the host (connect: to the host)
//
// A guest's host is at the other end of the virtio port org.mayfly.agent; or, where the kernel command line has
// mayfly.vsock=PORT, it listens on that port of its vsock.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "init.h"
#include "machine.h"
#include "server.h"
#include "vsock.h"
#include "vsock_command.h"

namespace mayfly::agent {
namespace {

constexpr const char* kUsage =
    "usage: mayfly-agent --service | --fd N | --listen PATH | --vsock listen|connect PORT COMMAND... | --version\n"
    "Without arguments, as process 1: sets up the guest and serves its host, over the virtio port org.mayfly.agent "
    "or,\n"
    "with mayfly.vsock=PORT on the kernel command line, over vsock.\n";

struct SignalMeaning {
  int signal;
  PowerChange change;
};

// What busybox's poweroff, halt and reboot and the kernel's ctrl-alt-del send to process 1.
constexpr SignalMeaning kSignalMeanings[] = {{SIGUSR2, PowerChange::kPowerOff},
                                             {SIGUSR1, PowerChange::kHalt},
                                             {SIGTERM, PowerChange::kReboot},
                                             {SIGINT, PowerChange::kReboot}};

// -1: no such number.
int NumberOf(std::string_view text) {
  int number = -1;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

int Fail(const std::string& what) {
  fprintf(stderr, "mayfly-agent: %s: %s\n", what.c_str(), strerror(errno));
  return 1;
}

int ServeGuest(bool is_init) {
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
  auto serve = [&](UniqueFd channel, Channel::Kind kind) {
    server.Attach(std::move(channel), kind);
    server.Turn();  // the hello first, then the console, which is slow
    tell_ready();
  };
  std::optional<VsockLink> link;
  if (std::string port = KernelWord("mayfly.vsock"); !port.empty()) {
    link.emplace(loop, NumberOf(port), [&](UniqueFd stream) { serve(std::move(stream), Channel::Kind::kSocket); });
    loop.before_wait = [&] {
      bool more = server.Turn();
      if (!server.attached()) link->Connect();
      return more;
    };
  } else {
    WhenPortAppears(loop, [&](UniqueFd opened) { serve(std::move(opened), Channel::Kind::kPort); });
    if (!HasVirtioConsole()) tell_ready();  // a guest without agent channel
  }
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
    return ServeGuest(true);
  }
  // Descriptors 0 to 2 are never used for anything else (see Spawn).
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd <= 2) continue;
    close(fd);
    break;
  }
  if (option == "--service" && argc == 2) return ServeGuest(false);
  if (option == "--listen" && argc == 3) return ServeListener(argv[2]);
  if (option == "--fd" && argc == 3) {
    if (int fd = NumberOf(argv[2]); fd > 2) return ServeSocket(fd);
  }
  if (std::string_view role = argc > 4 ? argv[2] : ""; option == "--vsock" && (role == "listen" || role == "connect")) {
    if (int port = NumberOf(argv[3]); port >= 0) {
      RunOverVsock(role, static_cast<unsigned>(port), argv + 4);
      return Fail("--vsock " + std::string(role) + " " + argv[3]);
    }
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
