// Files and directory trees between the host and the real agent, without a VM: both ends are directories of this host.
#include <mayfly/agent.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/agent_process.h>
#include <mayfly/internal/error_of_fixture.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/vm.h>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::ErrorOf;
using internal::WriteWholeFile;
using literals::operator""_KiB;
using testing::AllOf;
using testing::HasSubstr;

class AgentFiles : public testing::Test {
 protected:
  AgentFiles() {
    fs::create_directories(host);
    fs::create_directories(guest);
  }

  static std::string ReadWholeFile(const fs::path& file) { return internal::ReadWholeFile(file, 64 << 20); }

  // The names below a directory, sorted, with what each is.
  static std::vector<std::string> Tree(const fs::path& top) {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
      std::string name = entry.path().lexically_relative(top).string();
      if (entry.is_symlink()) {
        name += " -> " + fs::read_symlink(entry.path()).string();
      } else if (entry.is_directory()) {
        name += "/";
      }
      found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  internal::TestDirectory directory;
  fs::path host = directory / "host", guest = directory / "guest";
  internal::LocalAgent local{MAYFLY_AGENT_PROGRAM};
  Agent& agent = local.agent;
};

TEST_F(AgentFiles, OfEverySizeArriveWhole) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{128 << 10}, size_t{(128 << 10) + 1}, size_t{9'000'001}}) {
    std::string content(size, '\0');
    for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 2654435761u >> 11);
    WriteWholeFile(host / "file", content);
    agent.Upload(host / "file", (guest / "file").string());
    EXPECT_TRUE(ReadWholeFile(guest / "file") == content) << size;
    agent.Download((guest / "file").string(), host / "back");
    EXPECT_TRUE(ReadWholeFile(host / "back") == content) << size;
  }
}

TEST_F(AgentFiles, TreesArriveWithModesTimesAndLinks) {
  fs::create_directories(host / "tree/a/empty");
  WriteWholeFile(host / "tree/a/run", "#!/bin/sh\n", 0750);
  WriteWholeFile(host / "tree/zero", "");
  fs::create_symlink("/no/such/target", host / "tree/link");
  fs::permissions(host / "tree/a/empty", fs::perms(0700));
  timespec times[2] = {{0, UTIME_OMIT}, {1'234'567'890, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (host / "tree/zero").c_str(), times, 0), 0);
  agent.Upload(host / "tree", (guest / "copy").string());
  agent.Download((guest / "copy").string(), host / "back");
  for (const fs::path& copy : {guest / "copy", host / "back"}) {
    EXPECT_EQ(Tree(copy), Tree(host / "tree"));
    EXPECT_EQ(fs::status(copy / "a/run").permissions(), fs::perms(0750));
    EXPECT_EQ(fs::status(copy / "a/empty").permissions(), fs::perms(0700));
    struct stat status{};
    ASSERT_EQ(stat((copy / "zero").c_str(), &status), 0);
    EXPECT_EQ(status.st_mtime, 1'234'567'890);
  }
}

TEST_F(AgentFiles, SocketsAndPipesOfATreeAreLeftOut) {
  fs::create_directories(host / "tree");
  ASSERT_EQ(mkfifo((host / "tree/pipe").c_str(), 0600), 0);
  WriteWholeFile(host / "tree/file", "content");
  agent.Upload(host / "tree", (guest / "tree").string());
  EXPECT_THAT(Tree(guest / "tree"), testing::ElementsAre("file"));
}

TEST_F(AgentFiles, KeepTheirNameInADirectoryThatIsMade) {
  WriteWholeFile(host / "file", "content");
  agent.Upload(host / "file", (guest / "new/below/").string());
  EXPECT_EQ(ReadWholeFile(guest / "new/below/file"), "content");
}

TEST_F(AgentFiles, AFileThatIsReplacedIsNeverHalfThere) {
  WriteWholeFile(guest / "file", "old");
  WriteWholeFile(host / "file", std::string(4 << 20, 'n'));
  std::atomic<bool> done = false;
  std::thread reader([&] {
    while (!done) {
      size_t size = fs::file_size(guest / "file");
      EXPECT_TRUE(size == 3 || size == 4 << 20) << size;
    }
  });
  agent.Upload(host / "file", (guest / "file").string());
  done = true;
  reader.join();
  EXPECT_THAT(Tree(guest), testing::ElementsAre("file"));
}

TEST_F(AgentFiles, WhatCannotBeWrittenIsNamedAndLeavesNothing) {
  WriteWholeFile(host / "file", std::string(1 << 20, 'x'));
  WriteWholeFile(guest / "file", "a file");
  std::string below = (guest / "file/below").string();
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Upload(host / "file", below); }),
              AllOf(HasSubstr("'guest'"), HasSubstr((guest / "file").string()), HasSubstr("Not a directory")));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.WriteFile(below, "x", 0644); }), HasSubstr("Not a directory"));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Upload(host / "file", "/proc/no-such/file"); }),
              HasSubstr("/proc/no-such"));
  EXPECT_THAT(Tree(guest), testing::ElementsAre("file"));
  EXPECT_EQ(ReadWholeFile(guest / "file"), "a file");
}

TEST_F(AgentFiles, WhatTheHostCannotWriteIsNamedToo) {
  WriteWholeFile(guest / "file", std::string(1 << 20, 'x'));
  WriteWholeFile(host / "file", "a file");
  EXPECT_THAT(ErrorOf<Error>([&] { agent.Download((guest / "file").string(), host / "file/below"); }),
              AllOf(HasSubstr((host / "file").string()), HasSubstr("Not a directory")));
  EXPECT_EQ(agent.Exec("echo still here").out, "still here\n");
}

TEST_F(AgentFiles, ALinkInTheWayIsReplacedAndNotFollowed) {
  WriteWholeFile(guest / "outside", "untouched");
  fs::create_symlink(guest / "outside", guest / "link");
  WriteWholeFile(host / "file", "new");
  agent.Upload(host / "file", (guest / "link").string());
  EXPECT_EQ(ReadWholeFile(guest / "outside"), "untouched");
  EXPECT_EQ(ReadWholeFile(guest / "link"), "new");
}

TEST_F(AgentFiles, ReadFileHasALimit) {
  WriteWholeFile(guest / "file", std::string(3000, 'x'));
  EXPECT_EQ(agent.ReadFile((guest / "file").string(), 4_KiB).size(), 3000u);
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.ReadFile((guest / "file").string(), 2_KiB); }),
              HasSubstr((guest / "file").string()));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.ReadFile("/dev/zero", 64_KiB); }), HasSubstr("/dev/zero"));
  EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.ReadFile(guest.string(), 64_KiB); }), HasSubstr(guest.string()));
  EXPECT_NE(agent.ReadFile("/proc/version", 64_KiB), "") << "a file whose size is told as 0";
}

TEST_F(AgentFiles, WriteFileSetsTheMode) {
  agent.WriteFile((guest / "file").string(), "content", 0640);
  EXPECT_EQ(ReadWholeFile(guest / "file"), "content");
  EXPECT_EQ(fs::status(guest / "file").permissions(), fs::perms(0640));
}

TEST_F(AgentFiles, StatTellsWhatAPathIs) {
  WriteWholeFile(guest / "file", "content", 0640);
  fs::create_symlink("file", guest / "link");
  std::optional<GuestFile> file = agent.Stat((guest / "file").string());
  ASSERT_TRUE(file);
  EXPECT_EQ(file->type, GuestFile::Type::kFile);
  EXPECT_EQ(file->size, 7u);
  EXPECT_EQ(file->mode, 0640u);
  EXPECT_EQ(file->uid, geteuid());
  EXPECT_EQ(agent.Stat((guest / "link").string())->type, GuestFile::Type::kSymlink);
  EXPECT_EQ(agent.Stat(guest.string())->type, GuestFile::Type::kDirectory);
  EXPECT_EQ(agent.Stat("/dev/null")->type, GuestFile::Type::kOther);
  EXPECT_FALSE(agent.Stat((guest / "none").string()));
}

TEST_F(AgentFiles, TravelWhileCommandsRunAndOthersTravel) {
  WriteWholeFile(host / "file", std::string(8 << 20, 'x'));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] { agent.Upload(host / "file", (guest / std::to_string(i)).string()); });
  for (int i = 0; i < 20; ++i) EXPECT_EQ(agent.Exec({"echo", "beside"}).out, "beside\n");
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(fs::file_size(guest / std::to_string(i)), 8u << 20);
}

TEST_F(AgentFiles, AnAgentThatDiesInTheMiddleLeavesNoHalfFileUnderTheName) {
  WriteWholeFile(host / "file", std::string(64 << 20, 'x'));
  std::thread killer([&] { local.process.child().Kill(); });
  EXPECT_THAT(ErrorOf<GuestFailed>([&] {
                for (;;) agent.Upload(host / "file", (guest / "file").string());
              }),
              HasSubstr("channel was closed"));
  killer.join();
  if (fs::exists(guest / "file")) {
    EXPECT_EQ(fs::file_size(guest / "file"), 64u << 20);
  }
}

}  // namespace
}  // namespace mayfly
