// TAP devices of the kernel that runs these tests.
#include <mayfly/internal/tap.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/test_directory.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>

namespace mayfly::internal {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace)
using std::chrono::seconds;
using ::testing::HasSubstr;

class TapTest : public testing::Test {
 protected:
  void SetUp() override {
    if (auto why = WhyNoNamespaces()) GTEST_SKIP() << "not verified here: " << *why;
    if (access("/dev/net/tun", R_OK | W_OK) != 0) GTEST_SKIP() << "not verified here: no /dev/net/tun to open";
  }

  static std::string In(const Tap& tap, std::vector<std::string> command) {
    std::vector<std::string> words = WordsToEnter(tap);
    words.insert(words.end(), command.begin(), command.end());
    return RunCommand(words, Scaled(seconds(10))).out;
  }

  // The next frame that begins so; empty when none comes.
  static std::string Receive(const Tap& tap, std::string_view begin) {
    Deadline deadline = Deadline::After(Scaled(seconds(10)));
    std::array<char, 2048> frame{};
    for (pollfd ready{tap.descriptor.get(), POLLIN, 0}; poll(&ready, 1, deadline.RemainingForPoll()) > 0;) {
      ssize_t size = read(tap.descriptor.get(), frame.data(), frame.size());
      if (size <= 0) break;
      if (std::string_view(frame.data(), static_cast<size_t>(size)).starts_with(begin))
        return {frame.data(), begin.size()};
    }
    return {};
  }
};

// Who has the descriptor is the machine at the other end of the cable: it asks for an address, and the kernel answers.
TEST_F(TapTest, TheKernelAnswersOnANewDevice) {
  Tap tap = MakeTap();
  EXPECT_EQ(In(tap, {"ip", "address", "add", "10.9.9.2/24", "dev", tap.device}), "");
  std::string mine = "\x52\x54\0\0\0\x01"s;
  std::string request = "\xff\xff\xff\xff\xff\xff"s + mine + "\x08\x06\0\x01\x08\0\x06\x04\0\x01"s + mine +
                        "\x0a\x09\x09\x01"s + "\0\0\0\0\0\0"s + "\x0a\x09\x09\x02"s;
  ASSERT_EQ(write(tap.descriptor.get(), request.data(), request.size()), static_cast<ssize_t>(request.size()));
  EXPECT_EQ(Receive(tap, mine), mine) << "nobody answered";
}

TEST_F(TapTest, EachNewDeviceIsAloneInItsNetwork) {
  Tap one = MakeTap();
  Tap two = MakeTap();
  In(one, {"ip", "address", "add", "10.9.9.2/24", "dev", one.device});
  EXPECT_THAT(In(one, {"ip", "-o", "address"}), HasSubstr("10.9.9.2"));
  EXPECT_THAT(In(two, {"ip", "-o", "address"}), testing::Not(HasSubstr("10.9.9.2")));
  EXPECT_THAT(RunCommand({"ip", "-o", "link"}, Scaled(seconds(10))).out, testing::Not(HasSubstr(one.device + ":")));
}

TEST_F(TapTest, ADeviceThatIsNotThisUsersIsRefusedWithTheCommandThatMakesOne) {
  try {
    OpenTap("lo");
    FAIL() << "lo is no TAP device";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("cannot open TAP device lo"), HasSubstr("ip tuntap add lo")));
  }
}

// In a process of its own, which becomes a user without any right. /dev/net/tun is open to all there, as on hosts with
// udev.
int MakeAsNobody(const std::string& node) {
  constexpr unsigned kMisc = 10;
  constexpr unsigned kTun = 200;
  constexpr uid_t kNobody = 65534;
  bool ready = unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               mknod(node.c_str(), S_IFCHR | 0666, makedev(kMisc, kTun)) == 0 && chmod(node.c_str(), 0666) == 0 &&
               mount(node.c_str(), "/dev/net/tun", nullptr, MS_BIND, nullptr) == 0 && setgroups(0, nullptr) == 0 &&
               setgid(kNobody) == 0 && setuid(kNobody) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
  if (!ready) return 2;
  try {
    Tap tap = MakeTap();
    return tap.user && tap.network ? 0 : 1;
  } catch (const Error& error) {
    fputs(error.what(), stderr);
    return 1;
  }
}

TEST_F(TapTest, NeedsNoRights) {
  if (geteuid() != 0) GTEST_SKIP() << "the other tests of this suite have shown it";
  TestDirectory directory;
  pid_t child = fork();
  if (child == 0) _exit(MakeAsNobody((directory / "tun").string()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace mayfly::internal
