#include <mayfly/sandbox.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/small_file_system.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::ChildProcess;
using internal::UniqueFd;
using std::chrono::seconds;
using testing::HasSubstr;

// The process has a runtime directory of its own, chosen by the variable as a user would.
class SandboxTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    char pattern[] = "/tmp/mfsb-XXXXXX";
    root_ = mkdtemp(pattern);
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }
  void SetUp() override { Choose(root_ / "rt"); }
  static void Choose(const fs::path& path) {
    setenv("MAYFLY_RUNTIME_DIR", path.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  }

  static inline fs::path root_;
};

TEST_F(SandboxTest, IsPrivateAndGoesWithItsOwner) {
  fs::path path;
  {
    Sandbox sandbox = Sandbox::Create("kv");
    path = sandbox.directory();
    struct stat status{};
    ASSERT_EQ(stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700u);
    std::ofstream(sandbox.Path("log")) << "x";
    EXPECT_LE(sandbox.Path("123456789012.sock").string().size(), 107u);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(SandboxTest, NamesAreCleanedAndNeverClash) {
  Sandbox a = Sandbox::Create("../../etc/a name that is far too long for a path");
  Sandbox b = Sandbox::Create("../../etc/a name that is far too long for a path");
  EXPECT_NE(a.directory(), b.directory());
  EXPECT_EQ(a.directory().parent_path(), b.directory().parent_path());
  EXPECT_EQ(fs::canonical(a.directory()), a.directory());
}

TEST_F(SandboxTest, KeepLeavesIt) {
  fs::path path;
  {
    Sandbox sandbox = Sandbox::Create("kept");
    path = sandbox.directory();
    sandbox.Keep();
  }
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(SandboxTest, RefusesARuntimeDirectoryThatLeavesNoRoomForSockets) {
  Choose("/tmp/" + std::string(90, 'x'));
  try {
    RuntimeDirectory();
    FAIL() << "accepted";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("MAYFLY_RUNTIME_DIR: the runtime directory /tmp/xxx"));
    EXPECT_THAT(error.what(), HasSubstr("has 95 bytes; sockets below it leave room for 52"));
  }
}

TEST_F(SandboxTest, WithoutARuntimeDirectoryOfTheSessionItIsInTheTemporaryOne) {
  unsetenv("MAYFLY_RUNTIME_DIR");      // NOLINT(concurrency-mt-unsafe): one thread
  setenv("TMPDIR", root_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  std::string usual = "/mayfly-" + std::to_string(getuid());
  for (const char* session : {"", "/no/such/session"}) {  // the second is what sudo leaves
    setenv("XDG_RUNTIME_DIR", session, 1);                // NOLINT(concurrency-mt-unsafe): one thread
    EXPECT_EQ(RuntimeDirectory(), root_.string() + usual);
  }
  unsetenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(RuntimeDirectory(), root_.string() + usual);
  setenv("XDG_RUNTIME_DIR", root_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(RuntimeDirectory(), root_ / "mayfly");
  unsetenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe): one thread
  unsetenv("TMPDIR");           // NOLINT(concurrency-mt-unsafe): one thread
}

TEST_F(SandboxTest, TellsThatTheFileSystemOfTheRuntimeDirectoryIsFull) {
  internal::SmallFileSystem full("64k,nr_inodes=2");  // its root and the filler
  if (!full.mounted()) GTEST_SKIP() << internal::SmallFileSystem::kWhyNot;
  full.Fill();
  Choose(full.path());
  try {
    Sandbox::Create("kv");
    FAIL() << "made";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), HasSubstr(full.path().string()));
    EXPECT_THAT(error.what(), HasSubstr("No space left on device"));
  }
}

TEST_F(SandboxTest, RefusesARuntimeDirectoryThatOthersCanRead) {
  fs::create_directories(root_ / "open");
  fs::permissions(root_ / "open", fs::perms(0755));
  Choose(root_ / "open");
  try {
    RuntimeDirectory();
    FAIL() << "accepted";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), HasSubstr("is open to other users (mode 755, needed 700)"));
  }
}

TEST_F(SandboxTest, RefusesAFileAndALinkAsRuntimeDirectory) {
  std::ofstream(root_ / "file") << "x";
  Choose(root_ / "file");
  EXPECT_THROW(RuntimeDirectory(), BadSpec);
  fs::create_directory_symlink("/tmp", root_ / "link");
  Choose(root_ / "link");
  EXPECT_THROW(RuntimeDirectory(), BadSpec);
  Choose("relative/path");
  EXPECT_THROW(RuntimeDirectory(), BadSpec);
}

TEST_F(SandboxTest, GarbageCollectionRemovesWhatTheDeadLeftAndNothingElse) {
  fs::path runtime = RuntimeDirectory();
  fs::create_directories(runtime / "p999999-zz" / "vm-1");
  fs::create_directories(runtime / "other");  // not a process directory
  fs::create_directories(runtime / "p1-aa");
  UniqueFd owner(open((runtime / "p1-aa").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(owner.get(), LOCK_EX), 0);
  EXPECT_THAT(FindGarbage(), testing::ElementsAre(runtime / "p999999-zz"));
  EXPECT_THAT(CollectGarbage(), testing::ElementsAre(runtime / "p999999-zz"));
  EXPECT_TRUE(fs::exists(runtime / "p1-aa"));
  EXPECT_TRUE(fs::exists(runtime / "other"));
  owner.Reset();
  EXPECT_THAT(CollectGarbage(), testing::ElementsAre(runtime / "p1-aa"));
}

// Blocks until a directory is empty.
bool WaitUntilEmpty(const fs::path& directory) {
  UniqueFd watch(inotify_init1(IN_CLOEXEC));
  inotify_add_watch(watch.get(), directory.c_str(), IN_DELETE);
  Deadline deadline = Deadline::After(seconds(20));
  while (!fs::is_empty(directory)) {
    pollfd event{watch.get(), POLLIN, 0};
    if (poll(&event, 1, deadline.RemainingForPoll()) == 0) return false;
    char buffer[4096];
    [[maybe_unused]] ssize_t got = read(watch.get(), buffer, sizeof buffer);
  }
  return true;
}

// Runs the test SandboxOwner.* below in a process of its own that ends by `signal`.
void RunOwnerUntil(const fs::path& runtime, int signal) {
  fs::create_directory(runtime);
  fs::permissions(runtime, fs::perms(0700));
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  UniqueFd reader(ready[0]);
  ChildProcess owner({.argv = {"/proc/self/exe", "--gtest_filter=SandboxOwner.*"},
                      .inherit = {{ready[1], 5}},
                      .environment = {{"MAYFLY_RUNTIME_DIR", runtime.string()}, {"SANDBOX_OWNER", "5"}},
                      .grace = {}});
  close(ready[1]);
  char byte = 0;
  ASSERT_EQ(read(reader.get(), &byte, 1), 1) << "the owner made no sandbox";
  ASSERT_FALSE(fs::is_empty(runtime));
  owner.Signal(signal);
  EXPECT_EQ(owner.Wait(Deadline::After(seconds(20))).signal, signal);
  // By a signal that can be caught everything is gone already; after SIGKILL the janitor does it.
  if (signal != SIGKILL) {
    EXPECT_TRUE(fs::is_empty(runtime));
  }
  EXPECT_TRUE(WaitUntilEmpty(runtime));
}

TEST_F(SandboxTest, IsRemovedWhenItsProcessIsKilled) { RunOwnerUntil(root_ / "owner", SIGKILL); }
TEST_F(SandboxTest, IsRemovedWhenItsProcessIsInterrupted) { RunOwnerUntil(root_ / "owner", SIGINT); }
TEST_F(SandboxTest, IsRemovedWhenItsProcessIsTerminated) { RunOwnerUntil(root_ / "owner", SIGTERM); }

TEST(SandboxOwner, MakesASandboxAndAChildAndWaits) {
  const char* descriptor = getenv("SANDBOX_OWNER");  // NOLINT(concurrency-mt-unsafe): one thread
  if (descriptor == nullptr) GTEST_SKIP() << "run by SandboxTest in a process of its own";
  CleanUpOnSignals();
  Sandbox sandbox = Sandbox::Create("owned");
  std::ofstream(sandbox.Path("log")) << "x";
  ChildProcess child({.argv = {"sleep", "1000"}});
  ASSERT_EQ(write(std::stoi(descriptor), "x", 1), 1);
  child.Wait(Deadline::Never());
}

}  // namespace
}  // namespace mayfly
