#include <mayfly/internal/entry_cache.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr uint64_t kLimit = 1 << 20;

class EntryCacheTest : public testing::Test {
 protected:
  // An entry "thing" with one file that holds `content`.
  EntryRequest Request(const std::string& key, const std::string& content) {
    return {.name = "thing",
            .key = key,
            .inputs = [this] { return inputs_; },
            .build =
                [this, content](auto& place) {
                  ++builds_;
                  WriteWholeFile(place.entry / "file", content);
                }};
  }
  Progress Note() {
    return [this](std::string_view line) { told_.emplace_back(line); };
  }
  std::string Content(const fs::path& entry) { return ReadWholeFile(entry / "file", kLimit); }

  TestDirectory root_;
  EntryCache cache_{root_.path()};
  std::vector<std::string> inputs_ = {"package 1"};
  std::vector<std::string> told_;
  std::atomic<int> builds_ = 0;
};

TEST_F(EntryCacheTest, BuildsOnceAndFindsItAfterwards) {
  fs::path first = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, Note());
  fs::path second = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, Note());
  EXPECT_EQ(first, second);
  EXPECT_EQ(Content(second), "a");
  EXPECT_EQ(builds_, 1);
  auto found = cache_.Find("thing", "k", {});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->directory, first);
  EXPECT_EQ(found->size, Bytes(1));
  EXPECT_EQ("thing-" + found->identity, first.filename());
}

TEST_F(EntryCacheTest, TheSameInputGivesTheSameNameAndManifestInAnyCache) {
  TestDirectory other;
  fs::path here = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  fs::path there = EntryCache(other.path()).Get(Request("k", "a"), Reuse::kIfBuilt, {});
  EXPECT_EQ(here.filename(), there.filename());
  EXPECT_EQ(ReadWholeFile(here / "manifest.json", kLimit), ReadWholeFile(there / "manifest.json", kLimit));
}

TEST_F(EntryCacheTest, InputsAreLookedUpOnlyToBuild) {
  fs::path old = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  inputs_ = {"package 2"};
  EXPECT_EQ(cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {}), old);
  EXPECT_EQ(builds_, 1);
}

TEST_F(EntryCacheTest, NewInputsGiveAnEntryOfTheirOwnWhenTheCurrentOneIsWanted) {
  fs::path old = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  EXPECT_EQ(cache_.Get(Request("k", "a"), Reuse::kIfCurrent, {}), old);
  inputs_ = {"package 2"};
  fs::path current = cache_.Get(Request("k", "b"), Reuse::kIfCurrent, {});
  EXPECT_NE(current, old);
  EXPECT_EQ(Content(old), "a");
  EXPECT_EQ(cache_.Find("thing", "k", {})->directory, current);
}

TEST_F(EntryCacheTest, AnEntryIsReplacedInPlaceWhenItMustBeBuiltAnew) {
  fs::path first = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  EXPECT_EQ(cache_.Get(Request("k", "b"), Reuse::kNever, {}), first);
  EXPECT_EQ(Content(first), "b");
  EXPECT_FALSE(fs::exists(root_ / "building-thing"));
}

TEST_F(EntryCacheTest, ADamagedFileIsToldAndBuiltAgain) {
  fs::path entry = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  WriteWholeFile(entry / "file", "x");
  EXPECT_EQ(Content(cache_.Get(Request("k", "a"), Reuse::kIfBuilt, Note())), "a");
  EXPECT_THAT(told_,
              ElementsAre(HasSubstr("is damaged (file has another checksum): it is built again"), "build thing"));
}

TEST_F(EntryCacheTest, AMissingFileIsToldAndBuiltAgain) {
  fs::path entry = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  fs::remove(entry / "file");
  EXPECT_EQ(Content(cache_.Get(Request("k", "a"), Reuse::kIfBuilt, Note())), "a");
  EXPECT_THAT(told_, ElementsAre(HasSubstr("file is missing"), "build thing"));
}

TEST_F(EntryCacheTest, ABrokenManifestIsToldAndBuiltAgain) {
  fs::path entry = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  WriteWholeFile(entry / "manifest.json", "{\"files\": 7}");
  EXPECT_EQ(Content(cache_.Get(Request("k", "a"), Reuse::kIfBuilt, Note())), "a");
  EXPECT_THAT(told_, ElementsAre(HasSubstr("manifest.json is broken"), "build thing"));
}

TEST_F(EntryCacheTest, ATouchedFileIsCheckedAndKept) {
  fs::path entry = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  WriteWholeFile(entry / "file", "a");
  cache_.Get(Request("k", "a"), Reuse::kIfBuilt, Note());
  EXPECT_THAT(told_, IsEmpty());
  EXPECT_EQ(builds_, 1);
}

TEST_F(EntryCacheTest, DamageThatKeepsTheTimeIsFoundWhenAskedTo) {
  fs::path entry = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  fs::file_time_type time = fs::last_write_time(entry / "file");
  WriteWholeFile(entry / "file", "x");
  fs::last_write_time(entry / "file", time);
  EXPECT_TRUE(cache_.Find("thing", "k", {}));
  setenv("MAYFLY_VERIFY", "1", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_FALSE(cache_.Find("thing", "k", {}));
  unsetenv("MAYFLY_VERIFY");  // NOLINT(concurrency-mt-unsafe): one thread
}

TEST_F(EntryCacheTest, OfTwoBuildersOneWaitsAndSaysForWhom) {
  std::promise<void> building, other_waits;
  EntryRequest slow = Request("k", "a");
  slow.build = [&](const BuildPlace& place) {
    building.set_value();
    other_waits.get_future().wait();
    WriteWholeFile(place.entry / "file", "a");
  };
  auto first = std::async(std::launch::async, [&] { return cache_.Get(slow, Reuse::kIfBuilt, {}); });
  building.get_future().wait();
  std::string told;
  fs::path second = cache_.Get(Request("k", "b"), Reuse::kIfBuilt, [&](std::string_view line) {
    told = line;
    other_waits.set_value();
  });
  EXPECT_EQ(told, "wait for process " + std::to_string(getpid()) + ", which builds thing");
  EXPECT_EQ(second, first.get());
  EXPECT_EQ(Content(second), "a");
  EXPECT_EQ(builds_, 0);
}

TEST_F(EntryCacheTest, WhatAKilledBuilderLeftIsRemovedByTheNext) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  UniqueFd from_child(ends[0]), to_parent(ends[1]);
  pid_t builder = fork();
  if (builder == 0) {
    EntryRequest request = Request("k", "half");
    request.build = [&](const BuildPlace& place) {
      WriteWholeFile(place.entry / "stray", "half");
      if (write(to_parent.get(), "x", 1) == 1) pause();
    };
    cache_.Get(request, Reuse::kIfBuilt, {});
    _exit(1);
  }
  char byte = 0;
  ASSERT_EQ(read(from_child.get(), &byte, 1), 1);
  EXPECT_TRUE(fs::exists(root_ / "building-thing/entry/stray"));
  kill(builder, SIGKILL);
  ASSERT_EQ(waitpid(builder, nullptr, 0), builder);

  fs::path entry = cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {});
  EXPECT_EQ(Content(entry), "a");
  EXPECT_FALSE(fs::exists(entry / "stray"));
  EXPECT_FALSE(fs::exists(root_ / "building-thing"));
}

TEST_F(EntryCacheTest, AFailedBuildLeavesNoEntryAndTheNextSucceeds) {
  EntryRequest failing = Request("k", "a");
  failing.build = [](const BuildPlace& place) {
    WriteWholeFile(place.entry / "file", "half");
    throw HostLacks({.summary = "no network", .notes = {}, .next_step = {}});
  };
  EXPECT_THROW(cache_.Get(failing, Reuse::kIfBuilt, {}), HostLacks);
  EXPECT_FALSE(cache_.Find("thing", "k", {}));
  EXPECT_EQ(Content(cache_.Get(Request("k", "a"), Reuse::kIfBuilt, {})), "a");
}

TEST_F(EntryCacheTest, ACacheInPlaceOfAFileNamesTheFile) {
  WriteWholeFile(root_ / "file", "");
  EntryCache broken(root_ / "file");
  try {
    broken.Get(Request("k", "a"), Reuse::kIfBuilt, {});
    FAIL() << "expected HostLacks";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.text().summary, StartsWith("cannot write " + (root_ / "file").native()));
  }
}

TEST_F(EntryCacheTest, AFullDiskNamesTheDirectoryAndTheVariable) {
  try {
    ThrowFileError("write", "/cache/images/x", ENOSPC);
  } catch (const HostLacks& error) {
    EXPECT_EQ(error.text().next_step,
              "free space on the file system of /cache/images, or put the cache elsewhere with MAYFLY_CACHE_DIR");
  }
}

}  // namespace
}  // namespace mayfly::internal
