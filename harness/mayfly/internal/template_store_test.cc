#include <mayfly/internal/template_store.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <future>
#include <string>
#include <vector>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kLimit = uint64_t{4} << 20;
constexpr Bytes kNoLimit(uint64_t{1} << 40);
constexpr auto kForever = hours(24 * 365 * 100);

// What Machine::Snapshot leaves, as far as the store looks at it.
void WriteSnapshotFiles(const fs::path& place, const std::string& memory) {
  fs::create_directories(place / "snapshot");
  WriteWholeFile(place / "snapshot/memory", memory);
  WriteWholeFile(place / "snapshot/snapshot.json", "{}");
}

class TemplateStoreTest : public testing::Test {
 protected:
  TemplateRequest Request(const std::string& key, const std::string& memory = "memory",
                          const BuiltTemplate& told = {}) {
    return {.label = "tiny", .key = key, .build = [this, memory, told](const fs::path& place) {
              ++builds_;
              if (told.same_as.empty()) WriteSnapshotFiles(place, memory);
              return told;
            }};
  }
  Progress Note() {
    return [this](std::string_view line) { told_.emplace_back(line); };
  }
  static std::string Memory(const fs::path& saved) { return ReadWholeFile(saved / "memory", kLimit); }
  static void LastUsed(const fs::path& saved, std::chrono::hours ago) {
    fs::last_write_time(saved, fs::file_time_type::clock::now() - ago);
  }
  // Names of builds that are under way, or whose remains are there.
  std::vector<std::string> Unfinished() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(root_.path())) {
      std::string name = entry.path().filename();
      if (name.starts_with("building-") || name.starts_with("removing-")) found.push_back(name);
    }
    return found;
  }

  // Builds the template "k" in a process of its own, which is killed in the middle of it.
  void KillABuilder() {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    UniqueFd from_child(ends[0]), to_parent(ends[1]);
    pid_t builder = fork();
    if (builder == 0) {
      store_.Get({.label = "tiny", .key = "k", .build = [&](const fs::path& place) -> BuiltTemplate {
                    WriteSnapshotFiles(place, "half");
                    if (write(to_parent.get(), "x", 1) == 1) pause();
                    return {};
                  }});
      _exit(1);
    }
    char byte = 0;
    ASSERT_EQ(read(from_child.get(), &byte, 1), 1);
    ASSERT_THAT(Unfinished(), ElementsAre("building-tiny-k"));
    kill(builder, SIGKILL);
    ASSERT_EQ(waitpid(builder, nullptr, 0), builder);
  }

  TestDirectory root_;
  TemplateStore store_{root_.path()};
  std::vector<std::string> told_;
  std::atomic<int> builds_ = 0;
};

TEST_F(TemplateStoreTest, BuildsOnceAndFindsItAfterwardsInAnyProcess) {
  fs::path first = store_.Get(Request("k"));
  EXPECT_EQ(store_.Get(Request("k")), first);
  EXPECT_EQ(TemplateStore(root_.path()).Get(Request("k")), first);
  EXPECT_EQ(builds_, 1);
  EXPECT_EQ(Memory(first), "memory");
  EXPECT_NE(store_.Get(Request("another")), first);
  EXPECT_THAT(Unfinished(), IsEmpty());
}

TEST_F(TemplateStoreTest, OneBuildsWhileTheOthersWaitAndSayWhatFor) {
  std::promise<void> building, all_wait;
  std::atomic<int> waiting = 0;
  TemplateRequest slow = Request("k");
  slow.build = [&](const fs::path& place) -> BuiltTemplate {
    building.set_value();
    all_wait.get_future().wait();
    WriteSnapshotFiles(place, "memory");
    return {};
  };
  auto builder = std::async(std::launch::async, [&] { return store_.Get(slow); });
  building.get_future().wait();
  auto wait = [&] {
    return store_.Get(Request("k", "not this"), [&](std::string_view line) {
      EXPECT_EQ(line, "wait for another process, which prepares tiny");
      if (++waiting == 2) all_wait.set_value();
    });
  };
  auto one = std::async(std::launch::async, wait);
  auto two = std::async(std::launch::async, wait);
  fs::path built = builder.get();
  EXPECT_EQ(one.get(), built);
  EXPECT_EQ(two.get(), built);
  EXPECT_EQ(Memory(built), "memory");
  EXPECT_EQ(builds_, 0);
}

TEST_F(TemplateStoreTest, AFailureReachesEveryWaiterAndNobodyWhoComesLater) {
  std::promise<void> building, all_wait;
  std::atomic<int> waiting = 0;
  TemplateRequest failing = Request("k");
  failing.build = [&](const fs::path& place) -> BuiltTemplate {
    WriteSnapshotFiles(place, "half");
    building.set_value();
    all_wait.get_future().wait();
    throw BootFailed({.summary = "the guest panicked", .notes = {"console: no init"}, .next_step = "add one"});
  };
  auto error_of = [&](const TemplateRequest& request) -> std::string {
    try {
      store_.Get(request, [&](std::string_view) {
        if (++waiting == 3) all_wait.set_value();
      });
      return "no error";
    } catch (const BootFailed& error) {
      return error.text().summary + ", " + error.text().notes.at(0) + ", " + error.text().next_step;
    }
  };
  auto builder = std::async(std::launch::async, error_of, failing);
  building.get_future().wait();
  std::vector<std::future<std::string>> waiters;
  for (int i = 0; i < 3; ++i) waiters.push_back(std::async(std::launch::async, error_of, Request("k")));
  constexpr const char* kError = "the guest panicked, console: no init, add one";
  EXPECT_EQ(builder.get(), kError);
  for (auto& waiter : waiters) EXPECT_EQ(waiter.get(), kError);
  EXPECT_EQ(builds_, 0) << "none of them has tried in turn";
  EXPECT_THAT(Unfinished(), IsEmpty());

  EXPECT_EQ(Memory(store_.Get(Request("k"))), "memory");
  EXPECT_EQ(builds_, 1);
}

TEST_F(TemplateStoreTest, WhatCannotBeSavedIsToldAgainWithoutABuild) {
  TemplateRequest refused = Request("k");
  refused.build = [this](const fs::path&) -> BuiltTemplate {
    ++builds_;
    throw Unsupported(Capability::kStateSnapshot, "qemu", "State blocked by non-migratable device 'nvme'");
  };
  for (int i = 0; i < 3; ++i) {
    try {
      store_.Get(refused);
      FAIL() << "expected Unsupported";
    } catch (const Unsupported& error) {
      EXPECT_EQ(error.capability(), Capability::kStateSnapshot);
      EXPECT_EQ(error.reason(), "State blocked by non-migratable device 'nvme'");
    }
  }
  EXPECT_EQ(builds_, 1);
  refused.build = [this](const fs::path&) -> BuiltTemplate {
    ++builds_;
    throw Unsupported(Capability::kNetworkTap, "qemu", "of the preparation's own");
  };
  refused.key = "another";
  for (int i = 0; i < 2; ++i) EXPECT_THROW(store_.Get(refused), Unsupported);
  EXPECT_EQ(builds_, 3) << "any other refusal is tried again";
}

TEST_F(TemplateStoreTest, AFullDiskIsTheErrorOfEveryWaiterToo) {
  TemplateRequest failing = Request("k");
  failing.build = [](const fs::path& place) -> BuiltTemplate {
    throw fs::filesystem_error("copy", place, std::make_error_code(std::errc::no_space_on_device));
  };
  try {
    store_.Get(failing);
    FAIL() << "expected HostLacks";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.text().summary, HasSubstr("No space left on device"));
    EXPECT_THAT(error.text().next_step, HasSubstr("MAYFLY_CACHE_DIR"));
  }
  EXPECT_THAT(ReadWholeFile(root_ / "index" / "tiny-k", kLimit), HasSubstr("No space left")) << "waiters read it there";
}

TEST_F(TemplateStoreTest, WhatAKilledBuilderLeftIsNoTemplateAndGoesWithTheNextBuild) {
  KillABuilder();
  fs::path built = store_.Get(Request("k"));
  EXPECT_EQ(Memory(built), "memory");
  EXPECT_EQ(builds_, 1);
  EXPECT_THAT(Unfinished(), IsEmpty());
}

TEST_F(TemplateStoreTest, WhatAKilledBuilderLeftGoesWithAnEvictionToo) {
  KillABuilder();
  EXPECT_THAT(store_.Evict(kNoLimit, kForever), IsEmpty());
  EXPECT_THAT(Unfinished(), IsEmpty());
}

TEST_F(TemplateStoreTest, GarbageIsWhatAKilledBuilderLeftAndNothingElse) {
  store_.Get(Request("another"));
  EXPECT_THAT(store_.FindGarbage(), IsEmpty());
  KillABuilder();
  WriteWholeFile(root_ / "index/tiny-k.new", "{\"temp");
  TemplateRequest request = Request("third");
  request.build = [&](const fs::path& place) -> BuiltTemplate {
    WriteSnapshotFiles(place, "memory");
    EXPECT_THAT(store_.FindGarbage(), ElementsAre(root_ / "building-tiny-k", root_ / "index/tiny-k.new"));
    EXPECT_THAT(store_.CollectGarbage(), ElementsAre(root_ / "building-tiny-k", root_ / "index/tiny-k.new"));
    return {};
  };
  EXPECT_EQ(Memory(store_.Get(request)), "memory") << "a build that was under way";
  EXPECT_THAT(store_.FindGarbage(), IsEmpty());
  EXPECT_EQ(store_.List().size(), 2U);
}

TEST_F(TemplateStoreTest, AnEvictionLeavesABuildAloneThatIsUnderWay) {
  TemplateRequest request = Request("k");
  request.build = [&](const fs::path& place) -> BuiltTemplate {
    WriteSnapshotFiles(place, "memory");
    store_.Evict(Bytes(), hours(0));
    return {};
  };
  EXPECT_EQ(Memory(store_.Get(request)), "memory");
}

TEST_F(TemplateStoreTest, ADamagedTemplateIsToldAndBuiltAgain) {
  fs::path first = store_.Get(Request("k"));
  WriteWholeFile(first / "memory", "Memory");
  fs::path second = store_.Get(Request("k"), Note());
  EXPECT_NE(second, first);
  EXPECT_EQ(Memory(second), "memory");
  EXPECT_THAT(told_, ElementsAre(first.native() + " is damaged (memory has another checksum): it is built again"));
}

TEST_F(TemplateStoreTest, DamageThatKeepsTheTimeIsFoundWhenAskedTo) {
  fs::path first = store_.Get(Request("k"));
  fs::file_time_type time = fs::last_write_time(first / "memory");
  WriteWholeFile(first / "memory", "Memory");
  fs::last_write_time(first / "memory", time);
  EXPECT_EQ(store_.Get(Request("k")), first);
  setenv("MAYFLY_VERIFY", "1", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_NE(store_.Get(Request("k")), first);
  unsetenv("MAYFLY_VERIFY");  // NOLINT(concurrency-mt-unsafe): one thread
}

TEST_F(TemplateStoreTest, IsBuiltAgainWhenAFileThatWentIntoItHasChanged) {
  TestDirectory elsewhere;
  WriteWholeFile(elsewhere / "kv", "first");
  fs::path first = store_.Get(Request("k", "memory", {.files = {elsewhere / "kv"}}));
  EXPECT_EQ(store_.Get(Request("k")), first);
  WriteWholeFile(elsewhere / "kv", "second, and longer");
  EXPECT_NE(store_.Get(Request("k"), Note()), first);
  EXPECT_THAT(told_, ElementsAre(HasSubstr("kv has changed: what it went into is prepared again")));
}

TEST_F(TemplateStoreTest, AnotherTemplateServesWhereNothingWasPrepared) {
  fs::path first = store_.Get(Request("k"));
  EXPECT_EQ(store_.Get(Request("prepared", "", {.same_as = first})), first);
  EXPECT_EQ(store_.Get(Request("prepared", "", {.same_as = first})), first);
  EXPECT_EQ(builds_, 2);
}

TEST_F(TemplateStoreTest, WhatWasNotUsedLongestGoesWhenSpaceRunsOut) {
  std::vector<fs::path> saved;
  for (const char* key : {"a", "b", "c"}) saved.push_back(store_.Get(Request(key, std::string(1 << 20, 'x'))));
  LastUsed(saved[0], hours(2));
  LastUsed(saved[1], hours(3));
  LastUsed(saved[2], hours(1));
  store_.Get(Request("b"));  // is a use
  constexpr Bytes kRoomForTwo((uint64_t{2} << 20) + (uint64_t{512} << 10));
  EXPECT_THAT(store_.Evict(kRoomForTwo, kForever), ElementsAre(saved[0]));
  EXPECT_FALSE(fs::exists(saved[0]));
  EXPECT_TRUE(fs::exists(saved[1]));
  EXPECT_TRUE(fs::exists(saved[2]));
  builds_ = 0;
  EXPECT_EQ(Memory(store_.Get(Request("a"), Note())), "memory") << "what is gone is built again";
  EXPECT_EQ(builds_, 1);
  EXPECT_THAT(told_, IsEmpty()) << "which is no damage";
}

TEST_F(TemplateStoreTest, WhatIsOldGoesHoweverMuchSpaceThereIs) {
  fs::path old = store_.Get(Request("old"));
  fs::path young = store_.Get(Request("young"));
  LastUsed(old, hours(49));
  LastUsed(young, hours(47));
  EXPECT_THAT(store_.Evict(kNoLimit, hours(48)), ElementsAre(old));
  EXPECT_TRUE(fs::exists(young));
}

TEST_F(TemplateStoreTest, NothingGoesWhileItIsInUse) {
  fs::path saved = store_.Get(Request("k"));
  LastUsed(saved, hours(1));
  {
    UniqueFd one = TemplateStore::Use(saved);
    UniqueFd two = TemplateStore::Use(saved);
    one.Reset();
    EXPECT_THAT(store_.Evict(Bytes(), hours(0)), IsEmpty());
    EXPECT_EQ(Memory(saved), "memory");
  }
  EXPECT_THAT(store_.Evict(Bytes(), hours(0)), ElementsAre(saved));
  EXPECT_THROW(TemplateStore::Use(saved), BadSpec);
}

TEST_F(TemplateStoreTest, ATemplateStaysAsLongAsAnotherOnesDisksLieOnIt) {
  fs::path base = store_.Get(Request("base"));
  fs::path prepared = store_.Get(Request("prepared", "memory", {.base = base}));
  LastUsed(base, hours(2));
  LastUsed(prepared, hours(1));
  EXPECT_THAT(store_.Evict(Bytes(), hours(0)), ElementsAre(prepared));
  EXPECT_THAT(store_.Evict(Bytes(), hours(0)), ElementsAre(base));
}

TEST_F(TemplateStoreTest, ASpaceThatIsNoSizeIsToldBeforeAnythingIsBuilt) {
  setenv("MAYFLY_TEMPLATE_SPACE", "lots", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  try {
    store_.Get(Request("k"));
    ADD_FAILURE() << "expected BadSpec";
  } catch (const BadSpec& error) {
    EXPECT_EQ(error.text().summary, "MAYFLY_TEMPLATE_SPACE: \"lots\" is no size; allowed: such as \"8GiB\"");
  }
  EXPECT_EQ(builds_, 0);
  unsetenv("MAYFLY_TEMPLATE_SPACE");  // NOLINT(concurrency-mt-unsafe): one thread
}

TEST_F(TemplateStoreTest, WhatWasJustBuiltStaysHoweverLittleSpaceThereIs) {
  setenv("MAYFLY_TEMPLATE_SPACE", "1KiB", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  fs::path first = store_.Get(Request("a"));
  EXPECT_TRUE(fs::exists(first));
  fs::path second = store_.Get(Request("b"));
  EXPECT_TRUE(fs::exists(second));
  EXPECT_FALSE(fs::exists(first));
  unsetenv("MAYFLY_TEMPLATE_SPACE");  // NOLINT(concurrency-mt-unsafe): one thread
}

TEST_F(TemplateStoreTest, AStoreInPlaceOfAFileNamesTheFile) {
  WriteWholeFile(root_ / "file", "");
  try {
    TemplateStore(root_ / "file").Get(Request("k"));
    FAIL() << "expected HostLacks";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.text().summary, HasSubstr("cannot write " + (root_ / "file").native()));
  }
}

}  // namespace
}  // namespace mayfly::internal
