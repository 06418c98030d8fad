#include <mayfly/internal/janitor.h>

#include <fcntl.h>
#include <linux/close_range.h>
#include <mayfly/errors.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace mayfly::internal {
namespace {

std::atomic<int> writer{-1};

constexpr char kScript[] = "cat >/dev/null; rm -rf -- \"$1\"";

[[noreturn]] void BecomeJanitor(int reader, const char* directory) {
  setsid();
  if (fork() != 0) _exit(0);  // the grandchild is adopted by init: nobody has to reap it
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (dup2(reader, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || chdir("/") != 0) _exit(1);
  close_range(3, ~0U, 0);
  const char* argv[] = {"sh", "-c", kScript, "mayfly-janitor", directory, nullptr};
  const char* environment[] = {"PATH=/usr/bin:/bin", nullptr};
  execve("/bin/sh", const_cast<char* const*>(argv), const_cast<char* const*>(environment));
  _exit(1);
}

}  // namespace

void StartJanitor(const std::filesystem::path& directory) {
  int ends[2];
  std::string path = directory.string();
  pid_t child = -1;
  if (pipe2(ends, O_CLOEXEC) == 0) child = fork();
  if (child == 0) BecomeJanitor(ends[0], path.c_str());
  if (child < 0) {
    throw HostLacks({.summary = "cannot start the janitor process: " + std::generic_category().message(errno),
                     .next_step = "raise the limit of processes or open files (ulimit -u, ulimit -n)"});
  }
  close(ends[0]);
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  writer = ends[1];
}

int JanitorDescriptor() { return writer; }

}  // namespace mayfly::internal
