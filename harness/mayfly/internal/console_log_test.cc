#include <mayfly/internal/console_log.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/stat.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace mayfly::internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ConsoleLogTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) /
            (std::string("console-") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove(path_);
    writer_.Reset(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void Write(std::string_view text) {
    while (!text.empty()) {
      ssize_t written = write(writer_.get(), text.data(), text.size());
      ASSERT_GT(written, 0);
      text.remove_prefix(static_cast<size_t>(written));
    }
  }

  std::filesystem::path path_;
  UniqueFd writer_;
};

TEST_F(ConsoleLogTest, ReportsLinesWithoutWhatATerminalWouldNotShow) {
  std::mutex mutex;
  std::vector<std::string> lines;
  ConsoleLog console(path_, [&](std::string_view line) {
    std::lock_guard lock(mutex);
    lines.emplace_back(line);
  });
  Write("\x1b[2J\x1b[01;31mfirst\r\n");
  Write("sec");
  Write("ond\r\n\r\nlast");
  ASSERT_TRUE(console.WaitFor("last", Deadline::After(seconds(20))));
  console.BeginBoot();  // runs after what the I/O thread had to do
  std::lock_guard lock(mutex);
  EXPECT_THAT(lines, testing::ElementsAre("first", "second"));
}

TEST_F(ConsoleLogTest, WaitsForTextThatComesInPieces) {
  ConsoleLog console(path_, {});
  std::thread guest([&] {
    Write("some log");
    Write("in: ");
  });
  EXPECT_TRUE(console.WaitFor("login:", Deadline::After(seconds(20))));
  guest.join();
  EXPECT_FALSE(console.WaitFor("password", Deadline::After(milliseconds(10))));
}

TEST_F(ConsoleLogTest, WaitLooksOnlyAtThisBoot) {
  ConsoleLog console(path_, {});
  Write("ready\n");
  ASSERT_TRUE(console.WaitFor("ready", Deadline::After(seconds(20))));
  console.BeginBoot();
  EXPECT_FALSE(console.WaitFor("ready", Deadline::After(milliseconds(10))));
  Write("ready\n");
  EXPECT_TRUE(console.WaitFor("ready", Deadline::After(seconds(20))));
}

TEST_F(ConsoleLogTest, TailIsTheLastLines) {
  ConsoleLog console(path_, {});
  EXPECT_EQ(console.Tail(5), "");
  Write("one\r\ntwo\n\nthree\n" + std::string(1000, 'x') + "\nend");
  EXPECT_EQ(console.Tail(3), "three\n" + std::string(200, 'x') + "\nend\n");
}

TEST_F(ConsoleLogTest, AGuestThatPrintsWithoutEndDoesNotFillTheDisk) {
  ConsoleLog console(path_, {});
  std::string mebibyte(size_t{1} << 20, 'y');
  mebibyte.back() = '\n';
  for (int i = 0; i < 64; ++i) Write(mebibyte);
  Write("end");
  ASSERT_TRUE(console.WaitFor("end", Deadline::After(seconds(20))));
  console.BeginBoot();
  struct stat status{};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_LE(static_cast<size_t>(status.st_blocks) * 512, 3 * ConsoleLog::kKept);
  EXPECT_EQ(console.Text().size(), ConsoleLog::kKept);
}

// A user may have 128 instances of inotify.
TEST_F(ConsoleLogTest, ManyAreFollowedAtOnceAndOneOfThemByTwo) {
  constexpr size_t kCount = 300;
  std::vector<std::unique_ptr<ConsoleLog>> consoles;
  for (size_t i = 0; i < kCount; ++i) {
    consoles.push_back(std::make_unique<ConsoleLog>(path_.string() + std::to_string(i), [](std::string_view) {}));
  }
  ConsoleLog again(path_.string() + "7", [](std::string_view) {});
  consoles[8].reset();
  consoles[7].reset();
  for (size_t i : {7U, 299U}) {
    UniqueFd writer(open((path_.string() + std::to_string(i)).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    ASSERT_EQ(write(writer.get(), "there\n", 6), 6);
  }
  EXPECT_TRUE(again.WaitFor("there", Deadline::After(seconds(20))));
  EXPECT_TRUE(consoles[299]->WaitFor("there", Deadline::After(seconds(20))));
  for (size_t i = 0; i < kCount; ++i) std::filesystem::remove(path_.string() + std::to_string(i));
}

TEST_F(ConsoleLogTest, CannotFollowAFileThatCannotBeMade) {
  EXPECT_THROW(ConsoleLog("/no/such/directory/console.log", {}), HostLacks);
}

}  // namespace
}  // namespace mayfly::internal
