// Each process of a lease dies at each kill point: nothing is left then, and the next test passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/lease.h>
#include <mayfly/internal/template_store.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/test_leftovers.h>
#include <mayfly/sandbox.h>
#include <mayfly/vm.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using testing::AnyOf;
using testing::IsEmpty;
using testing::SizeIs;

struct Death {
  std::string victim;
  std::string point;
};

void PrintTo(const Death& death, std::ostream* out) { *out << death.victim << " at " << death.point; }

std::vector<Death> AllDeaths() {
  std::vector<Death> deaths;
  for (const KillPointRow& row : kKillPoints) {
    std::istringstream victims{std::string(row.victims)};
    for (std::string victim; victims >> victim;) deaths.push_back({victim, std::string(row.name)});
  }
  return deaths;
}

// Which test of ChaosOwner passes a point.
struct Way {
  std::string_view prefix;
  const char* owner;
};
constexpr Way kWays[] = {{"fork.", "ForksAVm"}, {"template.", "BuildsATemplate"}, {"", "LeasesAProcess"}};

class Chaos : public testing::TestWithParam<Death> {
 protected:
  void SetUp() override {
    fs::create_directory(runtime());
    fs::permissions(runtime(), fs::perms(0700));
    setenv("MAYFLY_RUNTIME_DIR", runtime().c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  }

  // Runs a test that passes the point, in a process of its own. With an order, somebody dies there.
  ExitStatus RunOwner(const std::string& order) {
    const Way* way = std::find_if(std::begin(kWays), std::end(kWays),
                                  [](const Way& w) { return GetParam().point.starts_with(w.prefix); });
    ChildProcess owner({.argv = {"/proc/self/exe", "--gtest_filter=ChaosOwner." + std::string(way->owner)},
                        .stdout_path = directory_ / "out",
                        .environment = {{"CHAOS_OWNER", templates()},
                                        {"MAYFLY_RUNTIME_DIR", runtime().string()},
                                        {"MAYFLY_POOL", "on"},
                                        {"MAYFLY_POOL_IDLE", "0"},
                                        {"MAYFLY_POOL_WARM", "0"},
                                        {"MAYFLY_KILL_POINT", order}},
                        .grace = {}});
    return owner.Wait(Deadline::After(Scaled(seconds(60))));
  }
  std::string Output() const { return ReadWholeFile(directory_ / "out", uint64_t{1} << 20); }
  // What is left when the daemon has left and the garbage is collected.
  std::string Leftovers() const {
    std::string left = ProcessesThatStay(runtime().native());
    CollectGarbage();
    TemplateStore(templates()).CollectGarbage();
    return left + LeftoversOf(runtime());
  }

  fs::path runtime() const { return directory_ / "rt"; }
  fs::path templates() const { return directory_ / "templates"; }
  TestDirectory directory_;
};

TEST_P(Chaos, LeavesNothingAndTheNextTestPasses) {
  fs::path token = directory_ / "token";
  WriteWholeFile(token, "");
  ExitStatus status = RunOwner(GetParam().victim + "@" + GetParam().point + ":" + token.string());
  EXPECT_EQ(status.signal, GetParam().victim == "test" ? SIGKILL : 0) << Output();
  EXPECT_EQ(Leftovers(), "");
  EXPECT_FALSE(fs::exists(token)) << "nobody passed the point\n" << Output();
  EXPECT_THAT(TemplateStore(templates()).List(), AnyOf(IsEmpty(), SizeIs(1)));

  EXPECT_EQ(RunOwner(""), (ExitStatus{0, 0})) << Output();
  EXPECT_EQ(Leftovers(), "");
  size_t templates_left = GetParam().point.starts_with("template.") ? 1 : 0;
  EXPECT_THAT(TemplateStore(templates()).List(), SizeIs(templates_left));
}

INSTANTIATE_TEST_SUITE_P(, Chaos, testing::ValuesIn(AllDeaths()), [](const auto& tested) {
  std::string name = tested.param.victim + "_" + tested.param.point;
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
});

// --- Run by the test above, in a process of its own ------------------------------------------------------------------

class ChaosOwner : public testing::Test {
 protected:
  void SetUp() override {
    const char* templates = std::getenv("CHAOS_OWNER");  // NOLINT(concurrency-mt-unsafe): one thread
    if (templates == nullptr) GTEST_SKIP() << "run by Chaos in a process of its own";
    templates_ = templates;
  }
  fs::path templates_;
};

TEST_F(ChaosOwner, LeasesAProcess) {
  auto lease = Lease::Open({.name = "kv", .memory = Bytes(64 << 20)});
  auto process = lease->Start({.argv = {"sleep", "1000"}, .grace = {}});
  process->Signal(SIGUSR1);
  EXPECT_EQ(process->Wait(Deadline::After(Scaled(seconds(20)))), (ExitStatus{0, SIGUSR1}));
}

TEST_F(ChaosOwner, ForksAVm) {
  Vm vm = Vm::Fork({.memory = Bytes(128 << 20)});
  EXPECT_EQ(vm.Exec("echo alive").OrThrow().out, "alive\n");
}

TEST_F(ChaosOwner, BuildsATemplate) {
  TemplateStore store(templates_);
  fs::path saved = store.Get({.label = "tiny", .key = "k", .build = [](const fs::path& place) -> BuiltTemplate {
                                fs::create_directories(place / "snapshot");
                                WriteWholeFile(place / "snapshot/snapshot.json", "{}");
                                return {};
                              }});
  EXPECT_EQ(ReadWholeFile(saved / "snapshot.json", 100), "{}");
}

}  // namespace
}  // namespace mayfly::internal
