#include "spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>

namespace mayfly::agent {
namespace {

struct Child {
  const SpawnOptions* options;
  std::vector<std::string> candidates;   // paths to execute, in order
  std::vector<const char*> argv;         // null-terminated
  std::vector<const char*> environment;  // null-terminated
  std::vector<const char*> script;       // "/bin/sh", candidate, rest of argv: for files without a "#!" line
  int error;
  const char* step;
};

// The candidate for each directory of PATH, as execvp has them.
std::vector<std::string> Candidates(const SpawnOptions& options) {
  std::string_view name = options.argv[0];
  if (name.find('/') != std::string_view::npos) return {std::string(name)};
  std::string_view path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (std::string_view variable : options.environment) {
    if (variable.starts_with("PATH=")) path = variable.substr(5);
  }
  std::vector<std::string> candidates;
  while (!name.empty()) {
    size_t colon = path.find(':');
    std::string directory(path.substr(0, colon));
    candidates.push_back((directory.empty() ? "." : directory) + "/" + std::string(name));
    if (colon == std::string_view::npos) break;
    path.remove_prefix(colon + 1);
  }
  return candidates;
}

// From here on in the child, which shares the parent's memory: no allocation, system calls only. The C library's set*id
// functions would tell "the other threads", so they are bypassed.

bool Fail(Child& child, const char* step) {
  child.error = errno;
  child.step = step;
  return false;
}

// SIGPIPE is all that the agent ignores (see Loop).
bool ResetSignals() {
  signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  return sigprocmask(SIG_SETMASK, &none, nullptr) == 0;
}

bool SetUp(Child& child) {
  const SpawnOptions& options = *child.options;
  ResetSignals();
  umask(022);
  setsid();
  if (options.terminal) ioctl(options.fds[0], TIOCSCTTY, 0);
  // The sources are above 2 (the agent keeps 0 to 2 open), so no dup2 overwrites one.
  for (int i = 0; i < 3; ++i) {
    if (dup2(options.fds[i], i) < 0) return Fail(child, "dup2");
  }
  if (options.user != nullptr) {
    const User& user = *options.user;
    if (syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0) return Fail(child, "setgroups");
    if (syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0) return Fail(child, "setgid");
    if (syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0) return Fail(child, "setuid");
  }
  if (chdir(options.directory.c_str()) != 0) return Fail(child, "chdir");
  return true;
}

int RunChild(void* argument) {
  Child& child = *static_cast<Child*>(argument);
  if (!SetUp(child)) _exit(127);
  auto* environment = const_cast<char* const*>(child.environment.data());
  int error = ENOENT;
  for (const std::string& candidate : child.candidates) {
    // Asked first: an execve that fails has made and thrown away an address space before it looks.
    if (access(candidate.c_str(), X_OK) == 0)
      execve(candidate.c_str(), const_cast<char* const*>(child.argv.data()), environment);
    if (errno == ENOEXEC) {
      child.script[1] = candidate.c_str();
      execve("/bin/sh", const_cast<char* const*>(child.script.data()), environment);
    }
    // As execvp: a program that may not be executed here may be found further on.
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
      error = errno;
      break;
    }
    if (errno == EACCES) error = EACCES;
  }
  errno = error;
  Fail(child, "exec");
  _exit(127);
}

}  // namespace

SpawnResult Spawn(const SpawnOptions& options) {
  alignas(16) static char stack[64 << 10];  // of the child, which runs while this thread waits
  Child child{.options = &options,
              .candidates = Candidates(options),
              .argv = options.argv,
              .environment = options.environment,
              .script = {"/bin/sh", nullptr},
              .error = 0,
              .step = ""};
  child.argv.push_back(nullptr);
  child.environment.push_back(nullptr);
  child.script.insert(child.script.end(), child.argv.begin() + 1, child.argv.end());
  // No signal may run a handler of ours in the child, on shared memory.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  pid_t pid = clone(&RunChild, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
  int clone_error = errno;
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return {.pid = -1, .error = clone_error, .step = "clone"};
  if (child.error != 0) return {.pid = -1, .error = child.error, .step = child.step};  // the loop reaps it
  return {.pid = pid};
}

}  // namespace mayfly::agent
