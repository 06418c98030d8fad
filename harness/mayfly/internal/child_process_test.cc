#include <mayfly/internal/child_process.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <poll.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

namespace mayfly::internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

Deadline Soon() { return Deadline::After(seconds(20)); }

std::string Slurp(const std::filesystem::path& path) {
  std::stringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

TEST(ChildProcess, TellsHowTheChildEnded) {
  EXPECT_EQ(ChildProcess({.argv = {"true"}}).Wait(Soon()), (ExitStatus{0, 0}));
  EXPECT_EQ(ChildProcess({.argv = {"sh", "-c", "exit 7"}}).Wait(Soon()), (ExitStatus{7, 0}));
  EXPECT_EQ(ChildProcess({.argv = {"sh", "-c", "kill -SEGV $$"}}).Wait(Soon()), (ExitStatus{0, SIGSEGV}));
  EXPECT_EQ((ExitStatus{0, SIGSEGV}).ToString(), "killed by SIGSEGV");
}

TEST(ChildProcess, NamesTheProgramThatIsMissing) {
  try {
    ChildProcess missing({.argv = {"no-such-program-here"}});
    FAIL() << "it started";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), HasSubstr("'no-such-program-here': there is no such program"));
    EXPECT_THAT(error.what(), HasSubstr("/usr/bin"));
  }
}

TEST(ChildProcess, FailsWhenAnOutputCannotBeOpened) {
  EXPECT_THROW(ChildProcess({.argv = {"true"}, .stdout_path = "/no/such/directory/log"}), HostLacks);
}

TEST(ChildProcess, KeepsRunningAfterAWaitThatTimedOut) {
  ChildProcess child({.argv = {"sleep", "1000"}, .grace = milliseconds(1)});
  EXPECT_THROW(child.Wait(Deadline::After(milliseconds(5))), Timeout);
  EXPECT_FALSE(child.Poll());
  EXPECT_EQ(child.Kill(), (ExitStatus{0, SIGKILL}));
}

TEST(ChildProcess, IsGoneWithItsGroupWhenItsOwnerGoes) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  {
    // Parent and child ignore SIGTERM; both hold the pipe. End of file comes when the last of them is gone.
    ChildProcess child({.argv = {"sh", "-c", "trap '' TERM; sleep 1000 & wait; wait"},
                        .inherit = {{ends[1], 7}},
                        .grace = milliseconds(10)});
    close(ends[1]);
  }
  pollfd end{reader.get(), POLLIN, 0};
  ASSERT_EQ(poll(&end, 1, 20000), 1);
  EXPECT_TRUE(end.revents & POLLHUP);
}

TEST(ChildProcess, GivesDescriptorsUnderTheirNumbersEvenWhenTheyCross) {
  std::filesystem::path dir = testing::TempDir();
  UniqueFd a(open((dir / "cross-a").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  UniqueFd b(open((dir / "cross-b").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  ChildProcess child({.argv = {"sh", "-c", "printf a >&3; printf b >&4"}, .inherit = {{a.get(), 3}, {b.get(), 4}}});
  EXPECT_TRUE(child.Wait(Soon()).ok());
  ChildProcess crossed({.argv = {"sh", "-c", "printf B >&\"$0\"; printf A >&\"$1\"", "3", "4"},
                        .inherit = {{b.get(), 3}, {a.get(), 4}}});
  EXPECT_TRUE(crossed.Wait(Soon()).ok());
  EXPECT_EQ(Slurp(dir / "cross-a"), "aA");
  EXPECT_EQ(Slurp(dir / "cross-b"), "bB");
  std::filesystem::remove(dir / "cross-a");
  std::filesystem::remove(dir / "cross-b");
}

TEST(ChildProcess, InheritsNothingElse) {
  UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd leak(fcntl(null.get(), F_DUPFD, 345));  // not close-on-exec
  ASSERT_EQ(leak.get(), 345);
  CommandOutput output = RunCommand({"ls", "/proc/self/fd"}, seconds(20));
  EXPECT_THAT(output.out, testing::Not(HasSubstr("345")));
}

TEST(ChildProcess, SeesTheAddedEnvironmentAndWorkingDirectory) {
  std::filesystem::path out = std::filesystem::path(testing::TempDir()) / "environment";
  std::filesystem::remove(out);
  ChildProcess child({.argv = {"sh", "-c", "echo $COLOUR; pwd"},
                      .stdout_path = out,
                      .environment = {{"COLOUR", "blue"}},
                      .working_directory = "/"});
  EXPECT_TRUE(child.Wait(Soon()).ok());
  EXPECT_EQ(Slurp(out), "blue\n/\n");
  std::filesystem::remove(out);
}

// A process that dies by SIGKILL takes its children along, but a thread that ends does not.
TEST(ChildProcess, DiesWithTheProcessThatStartedItButNotWithTheThread) {
  int held[2];
  int ready[2];
  ASSERT_EQ(pipe2(held, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  UniqueFd held_reader(held[0]);
  UniqueFd ready_reader(ready[0]);
  ChildProcess owner({.argv = {"/proc/self/exe", "--gtest_filter=ChildProcessOwner.*"},
                      .inherit = {{ready[1], 5}, {held[1], 6}},
                      .environment = {{"CHILD_PROCESS_OWNER", "yes"}}});
  close(held[1]);
  close(ready[1]);
  char byte = 0;
  ASSERT_EQ(read(ready_reader.get(), &byte, 1), 1) << "the owner did not start its child";
  pollfd end{held_reader.get(), POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, 50), 0) << "the child ended with the thread that started it";
  owner.Kill();
  EXPECT_EQ(poll(&end, 1, 20000), 1) << "the child outlived its owner";
}

TEST(ChildProcessOwner, StartsAChildFromAThreadAndWaits) {
  if (getenv("CHILD_PROCESS_OWNER") == nullptr) {  // NOLINT(concurrency-mt-unsafe): one thread
    GTEST_SKIP() << "run by ChildProcess.DiesWithTheProcessThatStartedItButNotWithTheThread";
  }
  std::unique_ptr<ChildProcess> child;
  std::thread([&] {
    child = std::make_unique<ChildProcess>(ChildOptions{.argv = {"sleep", "1000"}, .inherit = {{6, 9}}});
  }).join();
  close(6);
  ASSERT_EQ(write(5, "x", 1), 1);
  child->Wait(Deadline::Never());
}

TEST(RunCommand, ReturnsWhatWasPrintedAndTheStatus) {
  CommandOutput output = RunCommand({"sh", "-c", "echo out; echo err >&2; exit 3"}, seconds(20));
  EXPECT_EQ(output.out, "out\nerr\n");
  EXPECT_EQ(output.status, (ExitStatus{3, 0}));
}

TEST(RunCommand, KillsWhatTakesTooLong) { EXPECT_THROW(RunCommand({"sleep", "1000"}, milliseconds(10)), Timeout); }

TEST(RunCommand, KeepsAtMostOneMebibyte) {
  CommandOutput output = RunCommand({"head", "-c", "5000000", "/dev/zero"}, seconds(20));
  EXPECT_EQ(output.out.size(), size_t{1} << 20);
}

}  // namespace
}  // namespace mayfly::internal
