#include <mayfly/internal/child_process.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/janitor.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <system_error>

extern char** environ;

namespace mayfly::internal {
namespace {

std::string ErrnoText(int error) {
  std::string text = std::generic_category().message(error);
  return error == EMFILE || error == ENFILE ? text + " (`ulimit -n` raises their limit)" : text;
}

// All that the child needs between fork and exec, prepared before: only async-signal-safe calls are allowed there.
struct LaunchPlan {
  std::string program;
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::array<std::string, 3> streams;
  std::string working_directory;
  std::vector<std::pair<int, int>> inherit;
  int janitor = -1;

  std::vector<char*> argv_pointers;
  std::vector<char*> environment_pointers;
};

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> MergedEnvironment(const std::vector<std::pair<std::string, std::string>>& added) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view view(*entry);
    std::string_view name = view.substr(0, view.find('='));
    bool replaced = std::any_of(added.begin(), added.end(), [&](const auto& pair) { return pair.first == name; });
    if (!replaced) merged.emplace_back(view);
  }
  for (const auto& [name, value] : added) merged.push_back(fmt::format("{}={}", name, value));
  return merged;
}

[[noreturn]] void FailInChild(int report) {
  int error = errno;
  [[maybe_unused]] ssize_t written = write(report, &error, sizeof error);
  _exit(127);
}

// Gives the child its streams and descriptors and closes everything else. Every source is first copied above all
// targets, so that no dup2 overwrites a source that is still needed; all that is not a target is closed by exec.
void ArrangeDescriptors(const LaunchPlan& plan, int report) {
  int floor = 3;
  for (const auto& [ours, target] : plan.inherit) floor = std::max(floor, target + 1);
  report = fcntl(report, F_DUPFD_CLOEXEC, floor);
  if (report < 0) _exit(127);
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  for (int i = 0; i < 3; ++i) {
    int flags = i == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND;
    int fd = open(plan.streams[i].c_str(), flags | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, i) < 0) FailInChild(report);
    if (fd > 2) close(fd);
  }
  std::array<int, kMaxInheritedDescriptors> copies;  // bounded by the constructor
  size_t count = 0;
  for (const auto& [ours, target] : plan.inherit) {
    copies[count] = fcntl(ours, F_DUPFD_CLOEXEC, floor);
    if (copies[count++] < 0) FailInChild(report);
  }
  count = 0;
  for (const auto& [ours, target] : plan.inherit) {
    if (dup2(copies[count++], target) < 0) FailInChild(report);
  }
  if (plan.janitor >= 0 && fcntl(plan.janitor, F_DUPFD, floor) < 0) FailInChild(report);
}

[[noreturn]] void RunChild(const LaunchPlan& plan, int report, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before PDEATHSIG was set
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  if (!plan.working_directory.empty() && chdir(plan.working_directory.c_str()) != 0) FailInChild(report);
  ArrangeDescriptors(plan, report);
  execve(plan.program.c_str(), plan.argv_pointers.data(), plan.environment_pointers.data());
  FailInChild(report);
}

std::mutex live_mutex;
std::set<ChildProcess*>& LiveChildren() {
  static auto* live = new std::set<ChildProcess*>;
  return *live;
}

}  // namespace

class ChildProcess::State {
 public:
  std::mutex mutex;
  std::optional<ExitStatus> status;
  Duration grace{};
};

ChildProcess::ChildProcess(ChildOptions options) : state_(std::make_unique<State>()) {
  if (options.argv.empty() || options.inherit.size() > kMaxInheritedDescriptors) {
    throw std::invalid_argument("ChildProcess: no program, or more than 64 descriptors");
  }
  state_->grace = options.grace;
  LaunchPlan plan;
  auto program = FindProgram(options.argv[0]);
  if (!program) {
    const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
    throw HostLacks({.summary = fmt::format("cannot start '{}': there is no such program", options.argv[0]),
                     .notes = {fmt::format("searched: {}", path != nullptr ? path : "")},
                     .next_step = "`mayfly doctor` tells which package has it"});
  }
  plan.program = program->string();
  plan.argv = std::move(options.argv);
  plan.environment = MergedEnvironment(options.environment);
  plan.streams = {options.stdin_path, options.stdout_path, options.stderr_path};
  plan.working_directory = options.working_directory;
  plan.inherit = std::move(options.inherit);
  plan.janitor = JanitorDescriptor();
  plan.argv_pointers = Pointers(plan.argv);
  plan.environment_pointers = Pointers(plan.environment);

  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    throw HostLacks({.summary = fmt::format("cannot start '{}': {}", plan.argv[0], ErrnoText(errno))});
  }
  UniqueFd report_reader(report[0]);
  UniqueFd report_writer(report[1]);
  int fork_error = 0;
  pid_ = RunOnIoThread([&] {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) RunChild(plan, report_writer.get(), parent);
    if (child < 0) fork_error = errno;
    return child;
  });
  report_writer.Reset();
  if (pid_ < 0) throw HostLacks({.summary = fmt::format("cannot start '{}': {}", plan.argv[0], ErrnoText(fork_error))});
  int exec_error = 0;
  if (read(report_reader.get(), &exec_error, sizeof exec_error) == sizeof exec_error) {
    waitpid(pid_, nullptr, 0);
    throw HostLacks({.summary = fmt::format("cannot start '{}': {}", plan.program, ErrnoText(exec_error)),
                     .notes = {fmt::format("its output goes to {}", plan.streams[1])}});
  }
  pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) {
    int error = errno;
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    throw HostLacks({.summary = fmt::format("cannot watch '{}': pidfd_open: {}", plan.argv[0], ErrnoText(error)),
                     .next_step = "mayfly needs Linux 5.3 or later and a free file descriptor"});
  }
  std::lock_guard lock(live_mutex);
  LiveChildren().insert(this);
}

ChildProcess::~ChildProcess() {
  {
    std::lock_guard lock(live_mutex);
    LiveChildren().erase(this);
  }
  End(state_->grace);
}

std::optional<ExitStatus> ChildProcess::Poll() {
  std::lock_guard lock(state_->mutex);
  if (state_->status) return state_->status;
  int raw = 0;
  pid_t reaped = 0;
  do {
    reaped = waitpid(pid_, &raw, WNOHANG);
  } while (reaped < 0 && errno == EINTR);
  if (reaped == pid_) {
    state_->status = WIFSIGNALED(raw) ? ExitStatus{0, WTERMSIG(raw)} : ExitStatus{WEXITSTATUS(raw), 0};
  } else if (reaped < 0) {
    state_->status = ExitStatus{255, 0};  // someone else waited for it: how it ended is lost
  }
  return state_->status;
}

void ChildProcess::Signal(int signal) {
  std::lock_guard lock(state_->mutex);
  if (!state_->status) kill(-pid_, signal);  // not reaped yet, so the number is still this child's
}

void ChildProcess::KillForGood() noexcept {
  state_->mutex.lock();
  if (state_->status) return;
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void KillAllChildren() noexcept {
  live_mutex.lock();
  for (ChildProcess* child : LiveChildren()) child->KillForGood();
}

std::optional<std::filesystem::path> FindProgram(const std::string& name) {
  auto executable = [](const std::string& path) {
    return access(path.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(path);
  };
  if (name.find('/') != std::string::npos) {
    return executable(name) ? std::optional<std::filesystem::path>(name) : std::nullopt;
  }
  const char* variable = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string path = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  // Helpers such as mke2fs are in the system's directories, which a plain user's PATH leaves out.
  path += ":/usr/local/sbin:/usr/sbin:/sbin";
  size_t begin = 0;
  while (begin <= path.size()) {
    size_t end = std::min(path.find(':', begin), path.size());
    std::string candidate = path.substr(begin, end - begin) + "/" + name;
    if (executable(candidate)) return candidate;
    begin = end + 1;
  }
  return std::nullopt;
}

CommandOutput RunCommand(std::vector<std::string> argv, Duration timeout) {
  constexpr size_t kMaxOutput = 1 << 20;
  // An unlinked file instead of a pipe: a helper that prints a lot is never held up, and one that forks a child which
  // keeps its output open does not make us wait for it.
  UniqueFd file(memfd_create("mayfly-command", MFD_CLOEXEC));
  if (!file) throw HostLacks({.summary = fmt::format("cannot start '{}': {}", argv[0], ErrnoText(errno))});
  std::string path = fmt::format("/proc/{}/fd/{}", getpid(), file.get());
  std::string name = argv[0];
  ChildProcess child({.argv = std::move(argv), .stdout_path = path, .stderr_path = path, .grace = Duration::zero()});
  CommandOutput output;
  try {
    output.status = child.Wait(Deadline::After(timeout));
  } catch (const Timeout&) {
    throw Timeout({.summary = fmt::format("'{}' took longer than {}", name, ForPeople(timeout))});
  }
  off_t size = lseek(file.get(), 0, SEEK_END);
  output.out.resize(std::min(static_cast<size_t>(std::max<off_t>(size, 0)), kMaxOutput));
  ssize_t got = pread(file.get(), output.out.data(), output.out.size(), 0);
  output.out.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return output;
}

}  // namespace mayfly::internal
