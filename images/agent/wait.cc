// Waits for something in the guest: a file, a listening port, a systemd unit.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "operations.h"
#include "spawn.h"

namespace mayfly::agent {
namespace {

// The kernel reports no event when a port begins to listen, when something is mounted, or when sysfs and procfs change.
// Where that is so, the condition is looked at this often, on a timer of the loop.
constexpr Milliseconds kPortInterval(5);
constexpr Milliseconds kFileInterval(100);
constexpr Milliseconds kUnitInterval(200);

bool Exists(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

// Does a line of /proc/net/tcp or tcp6 say that `port` listens? "  0: 0100007F:1F90 00000000:0000 0A …"
bool HasListener(std::string_view table, uint16_t port) {
  while (!table.empty()) {
    size_t end = std::min(table.find('\n'), table.size());
    std::string_view line = table.substr(0, end);
    table.remove_prefix(std::min(end + 1, table.size()));
    std::array<std::string_view, 4> fields;
    for (std::string_view& field : fields) {
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      field = line.substr(0, line.find(' '));
      line.remove_prefix(field.size());
    }
    size_t colon = fields[1].rfind(':');
    if (fields[3] != "0A" || colon == std::string_view::npos) continue;
    uint16_t number = 0;
    std::string_view digits = fields[1].substr(colon + 1);
    std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
    if (number == port) return true;
  }
  return false;
}

class Wait : public Request {
 public:
  using Request::Request;
  ~Wait() override {
    for (Loop::TimerId* timer : {&timeout_, &check_}) server_.loop().Cancel(*timer);
    server_.loop().Forget(inotify_.get());
    server_.loop().Forget(output_.get());
    if (systemctl_ > 0) server_.loop().ForgetChild(systemctl_);
  }

  void Begin(const Message& message) {
    what_ = message.Text("what");
    name_ = message.Text("name");
    port_ = static_cast<uint16_t>(message.Number("port"));
    if (uint64_t timeout = message.Number("timeout")) {
      timeout_ = server_.loop().After(Milliseconds(std::min<uint64_t>(timeout, INT64_MAX / 2'000'000)), [this] {
        timeout_ = 0;
        Fail(ETIMEDOUT, what_ == "port" ? "port " + std::to_string(port_) : name_);
      });
    }
    Check();
  }

 private:
  void Check() {
    if (finished()) return;
    server_.loop().Cancel(check_);
    if (what_ == "file") return CheckFile();
    if (what_ == "port") return CheckPort();
    if (what_ == "unit") return CheckUnit();
    Fail(EINVAL, "wait for '" + what_ + "'");
  }

  void CheckAfter(Milliseconds interval) {
    check_ = server_.loop().After(interval, [this] {
      check_ = 0;
      Check();
    });
  }

  void CheckFile() {
    if (Exists(name_)) return Done();
    // The nearest directory that exists: the next part of the path appears in it.
    std::string parent = name_;
    while (!parent.empty() && !Exists(parent)) parent.resize(std::max<size_t>(parent.rfind('/') + 1, 1) - 1);
    WatchDirectory(parent.empty() ? "/" : parent);
    // What appeared between the look and the watch gave no event.
    if (Exists(name_)) return Done();
    CheckAfter(kFileInterval);
  }

  void CheckPort() {
    for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
      if (HasListener(ReadSmallFile(table), port_)) return Done();
    }
    CheckAfter(kPortInterval);
  }

  void WatchDirectory(const std::string& path) {
    if (watched_ == path) return;
    watched_ = path;
    server_.loop().Forget(inotify_.get());
    inotify_.Reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!inotify_) return;  // the interval remains
    inotify_add_watch(inotify_.get(), path.c_str(),
                      IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
    server_.loop().Watch(inotify_.get(), EPOLLIN, [this](uint32_t) {
      alignas(inotify_event) char buffer[4096];
      while (read(inotify_.get(), buffer, sizeof buffer) > 0) {
      }
      if (systemctl_ < 0) Check();
    });
  }

  // systemd makes and removes links in /run/systemd/units as units start and end.
  void CheckUnit() {
    WatchDirectory("/run/systemd/units");
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Fail(errno, "pipe");
    UniqueFd write_end(ends[1]), null(open("/dev/null", O_RDWR | O_CLOEXEC));
    output_.Reset(ends[0]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    SpawnOptions options;
    options.argv = {"systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", "--", name_.c_str()};
    options.environment = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8"};
    options.directory = "/";
    options.fds[0] = options.fds[2] = null.get();
    options.fds[1] = write_end.get();
    SpawnResult result = Spawn(options);
    if (result.error != 0) return Fail(result.error, "systemctl, which tells whether " + name_ + " is active");
    systemctl_ = result.pid;
    server_.loop().AwaitChild(systemctl_, [this](int status) {
      systemctl_ = -1;
      char buffer[1024];
      ssize_t count = read(output_.get(), buffer, sizeof buffer);
      JudgeUnit(status, std::string_view(buffer, count > 0 ? static_cast<size_t>(count) : 0));
    });
  }

  void JudgeUnit(int status, std::string_view properties) {
    auto has = [&](std::string_view line) { return properties.find(line) != std::string_view::npos; };
    if (has("ActiveState=active\n")) return Done();
    if (has("ActiveState=failed\n")) return Fail(ECANCELED, "unit " + name_ + " failed: " + OneLine(properties));
    // systemctl itself fails while systemd is still starting: then it is asked again.
    if (status == 0 && has("LoadState=not-found\n")) return Fail(ENOENT, "unit " + name_);
    CheckAfter(kUnitInterval);
  }

  static std::string OneLine(std::string_view lines) {
    std::string line(lines);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
  }

  std::string what_;
  std::string name_;
  uint16_t port_ = 0;
  Loop::TimerId timeout_ = 0, check_ = 0;
  UniqueFd inotify_;
  std::string watched_;
  pid_t systemctl_ = -1;
  UniqueFd output_;
};

}  // namespace

std::unique_ptr<Request> StartWait(Server& server, uint64_t id, const Message& message, std::string_view /*body*/) {
  auto wait = std::make_unique<Wait>(server, id);
  wait->Begin(message);
  return wait;
}

}  // namespace mayfly::agent
