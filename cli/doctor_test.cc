#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/matrix.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/doctor_checks.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

const json& CheckOf(const json& diagnosis, const std::string& name) {
  for (const json& check : diagnosis.at("checks")) {
    if (check.at("name") == name) return check;
  }
  throw std::runtime_error("no check " + name + " in " + diagnosis.dump());
}

TEST(Doctor, TellsWhatThisHostCanDo) {
  Outcome outcome = RunMayfly({"doctor"});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nqemu "), HasSubstr("\nmemory "), HasSubstr("VMs can run here"),
                                 Not(HasSubstr("\033"))));
}

TEST(Doctor, IsReadByScriptsToo) {
  json diagnosis = json::parse(RunMayfly({"doctor", "--json"}).out);
  EXPECT_TRUE(diagnosis.at("usable").get<bool>());
  EXPECT_EQ(diagnosis.at("driver"), "qemu");
  for (const json& check : diagnosis.at("checks")) {
    EXPECT_THAT(check.at("result").get<std::string>(), MatchesRegex("pass|warn|fail")) << check;
    EXPECT_NE(check.at("detail"), "") << check;
  }
}

TEST(Doctor, ColoursOnlyWhereItIsAskedTo) {
  EXPECT_THAT(RunMayfly({"doctor"}, {.environment = {{"CLICOLOR_FORCE", "1"}}}).out, HasSubstr("\033["));
  EXPECT_THAT(RunMayfly({"doctor"}, {.environment = {{"CLICOLOR_FORCE", "1"}, {"NO_COLOR", "1"}}}).out,
              Not(HasSubstr("\033[")));
}

TEST(Doctor, CountsTheCellsOfEachBackendThatCanBeVerifiedHere) {
  Diagnosis diagnosis = Diagnose("");
  size_t rows = internal::LoadMatrix().rows.size();
  std::vector<std::string> drivers;
  for (const DriverCells& cells : diagnosis.cells) {
    drivers.push_back(cells.driver);
    EXPECT_EQ(cells.summary.cells, rows);
    EXPECT_LE(cells.summary.verifiable, rows);
    EXPECT_EQ(cells.summary.verifiable == rows, cells.summary.lacks.empty()) << "what is not verified has a reason";
  }
  EXPECT_THAT(drivers, ElementsAre("qemu", "ch", "vz"));
}

TEST(Doctor, TellsALineForEachBackendWithAFixForEachLack) {
  size_t lines = 0;
  for (const HostCheck& check : Diagnose("").checks) {
    if (check.name != "matrix") continue;
    ++lines;
    EXPECT_THAT(check.detail, HasSubstr("cells can be verified here"));
    EXPECT_EQ(check.result == HostCheck::Result::kWarn, !check.fix.empty());
  }
  EXPECT_EQ(lines, 3U);
}

TEST(Doctor, LooksAtOneBackendOnlyWhenAsked) {
  Diagnosis diagnosis = Diagnose("qemu");
  ASSERT_EQ(diagnosis.cells.size(), 1U);
  EXPECT_EQ(diagnosis.cells[0].driver, "qemu");
}

TEST(Doctor, FailsWithTheFixWhenThereIsNoQemu) {
  Outcome outcome = RunMayfly({"doctor", "--json"}, {.environment = {{"MAYFLY_QEMU", "/no/qemu"}}});
  EXPECT_EQ(outcome.status.code, kFailed);
  json diagnosis = json::parse(outcome.out);
  EXPECT_FALSE(diagnosis.at("usable").get<bool>());
  const json& qemu = CheckOf(diagnosis, "qemu");
  EXPECT_EQ(qemu.at("result"), "fail");
  EXPECT_THAT(qemu.at("detail").get<std::string>(), HasSubstr("'/no/qemu', which MAYFLY_QEMU names"));
  EXPECT_THAT(qemu.at("fix").get<std::string>(), HasSubstr("apt-get install qemu-system-x86"));
  EXPECT_THAT(RunMayfly({"doctor"}, {.environment = {{"MAYFLY_QEMU", "/no/qemu"}}}).out,
              HasSubstr("No VM can run here before what fails above is put right.\n"));
}

TEST(Doctor, SaysThatTheCacheCannotBeWritten) {
  Outcome outcome = RunMayfly({"doctor", "--json"}, {.environment = {{"MAYFLY_CACHE_DIR", "/dev/null/cache"}}});
  EXPECT_EQ(outcome.status.code, kFailed);
  EXPECT_THAT(CheckOf(json::parse(outcome.out), "cache").at("detail").get<std::string>(), HasSubstr("is not writable"));
}

TEST(Gc, FindsNothingWhereNothingIs) {
  internal::TestDirectory cache;  // that of the user may have something
  RunOptions options{.environment = {{"MAYFLY_CACHE_DIR", cache.path()}}};
  EXPECT_EQ(RunMayfly({"gc"}, options).out, "nothing to remove\n");
  json result = json::parse(RunMayfly({"gc", "--dry-run", "--json"}, options).out);
  EXPECT_FALSE(result.at("removed").get<bool>());
  EXPECT_TRUE(result.at("paths").empty());
}

}  // namespace
}  // namespace mayfly::cli
