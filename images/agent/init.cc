#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <mayfly/internal/agent_protocol.h>
#include <mayfly/internal/file_stream.h>

#include "server.h"

namespace mayfly::agent {
namespace {

constexpr int kRootDiskMilliseconds = 10'000;
constexpr unsigned int kCompressedModule = 4;  // MODULE_INIT_COMPRESSED_FILE, in kernels since 5.17

struct Mount {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* options;
};

constexpr std::array kFirstMounts = {
    Mount{"devtmpfs", "/dev", MS_NOSUID, "mode=0755"},
    Mount{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr},
    Mount{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr},
    Mount{"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
};

// What a guest without an init of its own needs besides.
constexpr std::array kLaterMounts = {
    Mount{"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
    Mount{"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    Mount{"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
    Mount{"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr},
};

struct Link {
  const char* path;
  const char* target;
};

constexpr std::array kDeviceLinks = {
    Link{"/dev/fd", "/proc/self/fd"},
    Link{"/dev/stdin", "/proc/self/fd/0"},
    Link{"/dev/stdout", "/proc/self/fd/1"},
    Link{"/dev/stderr", "/proc/self/fd/2"},
};

[[noreturn]] void GiveUp(const std::string& why) {
  PrintOnConsole("mayfly-agent: " + why);
  _exit(1);
}

std::string Reason(int error) { return internal::agent::MakeFileError(error, "").text; }  // ": No such device"

template <size_t size>
void MountAll(const std::array<Mount, size>& mounts) {
  for (const Mount& row : mounts) {
    mkdir(row.target, 0755);
    // Mounted already is fine; what a kernel does not have, a guest may do without.
    mount(row.type, row.target, row.type, row.flags, row.options);
  }
}

void LoadModules(const char* list_file) {
  std::string list = ReadSmallFile(list_file);
  for (std::string_view rest = list; !rest.empty();) {
    size_t end = std::min(rest.find('\n'), rest.size());
    std::string path = "/lib/mayfly/" + std::string(rest.substr(0, end));
    bool named = end > 0;
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!named) continue;
    UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    unsigned int flags = path.ends_with(".ko") ? 0 : kCompressedModule;
    if (file && syscall(SYS_finit_module, file.get(), "", flags) == 0) continue;
    // A driver without its device, or one that is built in.
    if (errno == ENODEV || errno == EEXIST) continue;
    PrintOnConsole("mayfly-agent: module " + path + Reason(errno));
  }
}

void BringUpLoopback() {
  UniqueFd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (socket_fd) ioctl(socket_fd.get(), SIOCSIFFLAGS, &request);
}

// The kernel's device events: a message when a device appears or changes.
UniqueFd OpenUevents() {
  UniqueFd events(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (!events || bind(events.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  return events;
}

void DropUevents(int events) {
  char buffer[8192];
  while (recv(events, buffer, sizeof buffer, 0) > 0) {
  }
}

std::vector<std::string> List(const char* directory) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(directory), &closedir);
  if (stream == nullptr) return names;
  while (dirent* entry = readdir(stream.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  return names;
}

std::string Line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0' || text.back() == ' ')) text.pop_back();
  return text;
}

// The device file of the block device with this serial.
std::optional<std::string> FindDisk(const std::string& serial) {
  for (const std::string& name : List("/sys/block")) {
    if (Line(ReadSmallFile(("/sys/block/" + name + "/serial").c_str())) == serial) return "/dev/" + name;
  }
  return std::nullopt;
}

std::string WaitForDisk(const std::string& serial) {
  UniqueFd events = OpenUevents();
  timespec start{}, now{};
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    if (auto disk = FindDisk(serial)) return *disk;
    clock_gettime(CLOCK_MONOTONIC, &now);
    auto spent = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1'000'000;
    pollfd wait{.fd = events.get(), .events = POLLIN, .revents = 0};
    if (spent >= kRootDiskMilliseconds || poll(&wait, 1, static_cast<int>(kRootDiskMilliseconds - spent)) <= 0) break;
    DropUevents(events.get());
  }
  std::string seen;
  for (const std::string& name : List("/sys/block")) {
    seen += " " + name + "='" + Line(ReadSmallFile(("/sys/block/" + name + "/serial").c_str())) + "'";
  }
  GiveUp("no disk has the serial '" + serial + "' (mayfly.root) after 10 s; disks and their serials:" + seen);
}

// Removes everything on the file system of `directory`, for its memory. Other file systems mounted below are left
// alone.
void RemoveTree(int directory, dev_t device) {
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(directory), &closedir);
  if (stream == nullptr) return;
  while (dirent* entry = readdir(stream.get())) {
    std::string_view name = entry->d_name;
    struct stat status;
    if (name == "." || name == ".." || fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (status.st_dev != device) continue;
    if (S_ISDIR(status.st_mode)) {
      RemoveTree(openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), device);
      unlinkat(directory, entry->d_name, AT_REMOVEDIR);
    } else {
      unlinkat(directory, entry->d_name, 0);
    }
  }
}

void SwitchRoot(const std::string& disk) {
  constexpr const char* kNewRoot = "/mayfly-root";
  mkdir(kNewRoot, 0755);
  if (mount(disk.c_str(), kNewRoot, "ext4", 0, nullptr) != 0)
    GiveUp("cannot mount the root disk " + disk + Reason(errno));
  for (const Mount& row : kFirstMounts) {
    std::string target = std::string(kNewRoot) + row.target;
    mkdir(target.c_str(), 0755);
    if (mount(row.target, target.c_str(), nullptr, MS_MOVE, nullptr) != 0)
      GiveUp("cannot move " + target + Reason(errno));
  }
  struct stat status;
  int old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool is_initramfs = fstat(old_root, &status) == 0;
  if (chdir(kNewRoot) != 0 || mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0 || chdir("/") != 0) {
    GiveUp("cannot switch to the root disk " + disk + Reason(errno));
  }
  if (is_initramfs) RemoveTree(old_root, status.st_dev);
}

// Leaves this program where a system with an init of its own starts it as a service, so that its disk need not have it.
void LeaveAgentInRun() {
  mkdir("/run/mayfly", 0755);
  UniqueFd from(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  UniqueFd to(open("/run/mayfly/agent", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755));
  struct stat status;
  if (!from || !to || fstat(from.get(), &status) != 0) GiveUp("cannot copy the agent to /run/mayfly" + Reason(errno));
  for (off_t left = status.st_size; left > 0;) {
    ssize_t count = sendfile(to.get(), from.get(), nullptr, static_cast<size_t>(left));
    if (count <= 0) GiveUp("cannot copy the agent to /run/mayfly" + Reason(errno));
    left -= count;
  }
}

// Standard streams on the console: an initramfs without /dev/console leaves process 1 without any.
void OpenConsole() {
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd < 2) fd = dup(fd);
  if (fd > 2) close(fd);
}

UniqueFd OpenPort() {
  std::string by_name = "/dev/virtio-ports/" + std::string(internal::agent::kPortName);
  UniqueFd port(open(by_name.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (port) return port;
  for (const std::string& name : List("/sys/class/virtio-ports")) {
    if (Line(ReadSmallFile(("/sys/class/virtio-ports/" + name + "/name").c_str())) != internal::agent::kPortName)
      continue;
    port.Reset(open(("/dev/" + name).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (port) return port;
  }
  return {};
}

}  // namespace

void PrintOnConsole(const std::string& line) {
  UniqueFd console(open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC));
  std::string text = line + "\n";
  // Nobody can be told when this fails.
  if (console && write(console.get(), text.data(), text.size()) < 0) return;
}

std::string KernelWord(std::string_view name, std::string otherwise) {
  static const std::string* line = new std::string(Line(ReadSmallFile("/proc/cmdline")));
  std::string_view rest = *line;
  while (!rest.empty()) {
    std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(word.size() + 1, rest.size()));
    if (word == name) return "";
    if (word.size() > name.size() && word.starts_with(name) && word[name.size()] == '=') {
      return std::string(word.substr(name.size() + 1));
    }
  }
  return otherwise;
}

bool HasKernelWord(std::string_view name) { return KernelWord(name, "\n") != "\n"; }

bool HasVirtioConsole() {
  for (const std::string& name : List("/sys/bus/virtio/drivers/virtio_console")) {
    if (name.starts_with("virtio")) return true;
  }
  return false;
}

void SetUpGuest() {
  MountAll(kFirstMounts);
  OpenConsole();
  if (HasKernelWord("mayfly.trace")) EnableTrace();
  Trace("agent: loading modules");
  LoadModules("/lib/mayfly/modules");
  if (HasKernelWord("mayfly.vsock")) LoadModules("/lib/mayfly/vsock-modules");
  Trace("agent: modules loaded");
  std::string root = KernelWord("mayfly.root");
  std::string init = KernelWord("mayfly.init");
  if (!init.empty()) LeaveAgentInRun();
  if (!root.empty()) SwitchRoot(WaitForDisk(root));
  if (!init.empty()) {
    execl(init.c_str(), init.c_str(), nullptr);
    GiveUp("cannot execute " + init + " (mayfly.init)" + Reason(errno));
  }
  MountAll(kLaterMounts);
  for (const Link& link : kDeviceLinks) {
    if (symlink(link.target, link.path) != 0 && errno != EEXIST) PrintOnConsole("mayfly-agent: " + Reason(errno));
  }
  BringUpLoopback();
  Trace("agent: set up");
}

void WhenPortAppears(Loop& loop, std::function<void(UniqueFd)> opened) {
  auto events = std::make_shared<UniqueFd>(OpenUevents());
  if (UniqueFd port = OpenPort()) return opened(std::move(port));
  if (!*events) return;
  int fd = events->get();
  loop.Watch(fd, EPOLLIN, [&loop, events, opened = std::move(opened)](uint32_t) {
    DropUevents(events->get());
    UniqueFd port = OpenPort();
    if (!port) return;
    loop.Forget(events->get());
    opened(std::move(port));
  });
}

}  // namespace mayfly::agent
