#include <mayfly/internal/tap.h>

#include <mayfly/errors.h>

#ifdef __linux__
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace mayfly::internal {
namespace {

constexpr const char* kNewDevice = "tap0";  // the only one of its namespace
constexpr const char* kTun = "/dev/net/tun";

// What the child does, in order, and what is told when it cannot.
enum class Step : int { kNamespaces, kUsers, kDevice, kUp, kDone };
constexpr std::array<const char*, 4> kStepWords = {"make a user and a network namespace", "map its user",
                                                   "make a TAP device (/dev/net/tun)", "switch the TAP device on"};

struct Report {
  Step step = Step::kDone;
  int error = 0;
};

struct Plan {
  int socket = -1;
  bool device = true;  // false: the namespaces only
  std::string users{};
  std::string groups{};
};

ifreq RequestFor(const char* device) {
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  return request;
}

int AttachQueue(int tun, const char* device) {
  ifreq request = RequestFor(device);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  return ioctl(tun, TUNSETIFF, &request);
}

// --- In the child, between fork and its end: only async-signal-safe calls are allowed -------------------------------

[[noreturn]] void FailInChild(const Plan& plan, Step step) {
  Report report{step, errno};
  [[maybe_unused]] ssize_t sent = send(plan.socket, &report, sizeof report, MSG_NOSIGNAL);
  _exit(1);
}

bool WriteTo(const char* file, const char* text, size_t size) {
  int fd = open(file, O_WRONLY | O_CLOEXEC);
  bool good = fd >= 0 && write(fd, text, size) == static_cast<ssize_t>(size);
  if (fd >= 0) close(fd);
  return good;
}

// False where root has made a network namespace only, because it may not make users: in a chroot.
bool EnterNamespaces(const Plan& plan) {
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) return true;
  int error = errno;
  if (unshare(CLONE_NEWNET) == 0) return false;
  errno = error;
  FailInChild(plan, Step::kNamespaces);
}

void SwitchOn(const Plan& plan, const char* device) {
  ifreq request = RequestFor(device);
  request.ifr_flags = IFF_UP;
  int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (any < 0 || ioctl(any, SIOCSIFFLAGS, &request) != 0) FailInChild(plan, Step::kUp);
  close(any);
}

[[noreturn]] void MakeInChild(const Plan& plan) {
  bool has_users = EnterNamespaces(plan);
  if (has_users && (!WriteTo("/proc/self/setgroups", "deny", 4) ||
                    !WriteTo("/proc/self/uid_map", plan.users.data(), plan.users.size()) ||
                    !WriteTo("/proc/self/gid_map", plan.groups.data(), plan.groups.size()))) {
    FailInChild(plan, Step::kUsers);
  }
  if (!plan.device) {
    errno = 0;
    FailInChild(plan, Step::kDone);
  }
  // The device is made in the network namespace in which its file was opened.
  int tun = open(kTun, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (tun < 0 || AttachQueue(tun, kNewDevice) != 0) FailInChild(plan, Step::kDevice);
  SwitchOn(plan, "lo");
  SwitchOn(plan, kNewDevice);
  const std::array<int, 3> descriptors = {tun, open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC),
                                          open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
  Report report{Step::kDone, 0};
  iovec bytes{&report, sizeof report};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptors);
  std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
  _exit(sendmsg(plan.socket, &message, MSG_NOSIGNAL) == sizeof report ? 0 : 1);
}

// --- In this process ------------------------------------------------------------------------------------------------

struct Answer {
  Report report{};
  std::array<UniqueFd, 3> descriptors{};
};

Answer Receive(int socket) {
  Answer answer{.report = {Step::kNamespaces, ECHILD}};
  iovec bytes{&answer.report, sizeof answer.report};
  std::array<int, 3> descriptors{-1, -1, -1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = 0;
  do {
    size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  const cmsghdr* header = size > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header != nullptr && header->cmsg_len == CMSG_LEN(sizeof descriptors)) {
    std::memcpy(descriptors.data(), CMSG_DATA(header), sizeof descriptors);
  }
  for (size_t i = 0; i < descriptors.size(); ++i) answer.descriptors[i].Reset(descriptors[i]);
  return answer;
}

// A process enters a user namespace only when it has one thread, so a child does.
Answer AskChild(bool device) {
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    throw HostLacks({.summary = "cannot make a socket pair: " + std::generic_category().message(errno)});
  }
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  Plan plan{.socket = theirs.get(),
            .device = device,
            .users = fmt::format("0 {} 1", geteuid()),
            .groups = fmt::format("0 {} 1", getegid())};
  pid_t child = fork();
  if (child == 0) MakeInChild(plan);
  theirs.Reset();
  if (child < 0) throw HostLacks({.summary = "cannot fork: " + std::generic_category().message(errno)});
  Answer answer = Receive(ours.get());
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return answer;
}

std::string Trouble(const Report& report) {
  return fmt::format("cannot {}: {}", kStepWords.at(static_cast<size_t>(report.step)),
                     std::generic_category().message(report.error));
}

}  // namespace

Tap MakeTap() {
  Answer answer = AskChild(/*device=*/true);
  if (answer.report.step != Step::kDone || !answer.descriptors[2]) {
    throw HostLacks({.summary = "TAP: " + Trouble(answer.report),
                     .next_step = "let users make namespaces (sudo sysctl kernel.unprivileged_userns_clone=1 "
                                  "user.max_user_namespaces=10000), and load tun (sudo modprobe tun)"});
  }
  Tap tap{.device = kNewDevice,
          .descriptor = std::move(answer.descriptors[0]),
          .user = std::move(answer.descriptors[1]),
          .network = std::move(answer.descriptors[2])};
  struct stat theirs{};
  struct stat ours{};
  bool same =
      fstat(tap.user.get(), &theirs) == 0 && stat("/proc/self/ns/user", &ours) == 0 && theirs.st_ino == ours.st_ino;
  if (same) tap.user.Reset();  // nobody may enter the one that he is in
  return tap;
}

Tap OpenTap(const std::string& device) {
  Tap tap{.device = device, .descriptor = UniqueFd(open(kTun, O_RDWR | O_NONBLOCK | O_CLOEXEC))};
  if (!tap.descriptor || AttachQueue(tap.descriptor.get(), device.c_str()) != 0) {
    throw HostLacks(
        {.summary = fmt::format("cannot open TAP device {}: {}", device, std::generic_category().message(errno)),
         .next_step = fmt::format("make it for this user (sudo ip tuntap add {} mode tap user $USER), give each VM one "
                                  "of its own, or leave source out for a new one",
                                  device)});
  }
  return tap;
}

std::vector<std::string> WordsToEnter(const Tap& tap) {
  if (!tap.network) return {};
  auto file = [](const UniqueFd& fd) { return fmt::format("/proc/{}/fd/{}", getpid(), fd.get()); };
  std::vector<std::string> words = {"nsenter", "--net=" + file(tap.network)};
  if (tap.user) words.push_back("--user=" + file(tap.user));
  words.emplace_back("--");
  return words;
}

std::optional<std::string> WhyNoNamespaces() {
  Report report = AskChild(/*device=*/false).report;
  if (report.step == Step::kDone) return std::nullopt;
  return Trouble(report);
}

}  // namespace mayfly::internal

#else

namespace mayfly::internal {

constexpr const char* kOnLinux = "TAP devices exist on Linux only";

Tap MakeTap() { throw HostLacks({.summary = kOnLinux}); }
Tap OpenTap(const std::string&) { throw HostLacks({.summary = kOnLinux}); }
std::vector<std::string> WordsToEnter(const Tap&) { return {}; }
std::optional<std::string> WhyNoNamespaces() { return kOnLinux; }

}  // namespace mayfly::internal

#endif
