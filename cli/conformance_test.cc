// mayfly conformance with a stand-in for the program that has the scenarios: a script whose "tests" behave as badly as
// can be. Real guests: the tests conformance.*, and conformance_vm_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/json_schema.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/internal/test_directory.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/conformance_report.h"
#include "cli/conformance_runner.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::ReadWholeFile;
using internal::TestDirectory;
using internal::WriteWholeFile;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Each case: what follows "cpu.count." in its name is what the script does.
constexpr const char* kScript = R"(#!/bin/sh
if [ "$1" = --list-cases ]; then exec cat "$(dirname "$0")/cases.json"; fi
name=${1##*.}
report=${2#--gtest_output=json:}
say() { echo "{\"testsuites\":[{\"testsuite\":[{\"name\":\"x\",\"mayfly_outcome\":\"$1\",\"mayfly_reason\":\"$2\"$3}]}]}" > "$report"; }
case $name in
  good) echo all is well; say pass "" ',"mayfly_vmm":"VMM 1","mayfly_accelerator":"tcg"' ;;
  wrong) mkdir -p "$MAYFLY_ARTIFACTS_DIR"; echo kept > "$MAYFLY_ARTIFACTS_DIR/console.log"
         say fail "" ',"failures":[{"failure":"nproc </script> printed 1"}]'; exit 1 ;;
  promoted) say unexpected_pass "make it supported" ;;
  crash) echo before; kill -SEGV $$ ;;
  silent) exit 0 ;;
  code) say pass; exit 3 ;;
  hang) echo hanging; exec sleep 600 ;;
  leave) setsid sleep 601 >/dev/null 2>&1 & until read -r comm </proc/$!/comm && [ $comm = sleep ]; do :; done; say pass ;;
  flood) head -c 1073741824 /dev/zero; say pass ;;
esac
)";

class ConformanceCommand : public testing::Test {
 protected:
  // Writes the program with these cases.
  void Program(const std::vector<std::string>& names) {
    WriteWholeFile(directory_ / "program", kScript, 0755);
    json cases = json::array();
    for (const std::string& name : names) {
      cases.push_back({{"test", "conformance.qemu.cpu.count." + name},
                       {"driver", "qemu"},
                       {"capability", "cpu.count"},
                       {"claim", "it is " + name},
                       {"kind", "claim"},
                       {"needs", json::array()}});
    }
    WriteWholeFile(directory_ / "cases.json", cases.dump());
  }

  RunOptions Options() { return {.environment = {{"MAYFLY_CONFORMANCE", (directory_ / "program").string()}}}; }

  Outcome Run(std::vector<std::string> words) {
    words.insert(words.begin(), {"conformance", "run", "--driver", "qemu"});
    words.insert(words.end(), {"--report", Report().string()});
    return RunMayfly(words, Options());
  }

  fs::path Report() { return directory_ / "report"; }
  json Results() { return json::parse(ReadWholeFile(Report() / "results.json", 1 << 22)); }
  json ResultOf(const std::string& name) {
    const json all = Results();
    for (const json& result : all.at("results")) {
      if (result.at("claim") == "it is " + name) return result;
    }
    return {};
  }

  TestDirectory directory_;
};

TEST_F(ConformanceCommand, EndsWithNothingWhenAllIsAsTheMatrixSays) {
  Program({"good"});
  Outcome outcome = Run({});
  EXPECT_EQ(outcome.status.code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("[1/1]"), HasSubstr("cpu.count: it is good"), HasSubstr("1 pass")));
  json good = ResultOf("good");
  EXPECT_EQ(good.at("outcome"), "pass");
  EXPECT_EQ(good.at("facts").at("vmm"), "VMM 1");
  EXPECT_EQ(ReadWholeFile(Report() / good.at("log"), 1 << 20), "all is well\n");
  EXPECT_EQ(Results().at("complete"), true);
  EXPECT_EQ(Results().at("vmm").at("accelerator"), "tcg");
}

TEST_F(ConformanceCommand, WhatDeviatesIsToldWithItsReasonLogAndArtefacts) {
  Program({"wrong", "good"});
  Outcome outcome = Run({});
  EXPECT_EQ(outcome.status.code, 1);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("FAIL"), HasSubstr("printed 1"), HasSubstr("1 pass, 1 FAIL")));
  json wrong = ResultOf("wrong");
  EXPECT_THAT(wrong.at("artefacts").dump(), HasSubstr("console.log"));
  EXPECT_EQ(ReadWholeFile(Report() / wrong.at("artefacts").at(0), 100), "kept\n");
  EXPECT_THAT(ReadWholeFile(Report() / "junit.xml", 1 << 20),
              AllOf(HasSubstr("tests=\"2\" failures=\"1\""), HasSubstr("nproc &lt;/script&gt; printed 1")));
  EXPECT_THAT(ReadWholeFile(Report() / "report.md", 1 << 20),
              AllOf(HasSubstr("## Deviations"), HasSubstr("[console.log](artefacts/")));
  EXPECT_THAT(ReadWholeFile(Report() / "report.html", 1 << 20), Not(HasSubstr("nproc </script>")));
}

TEST_F(ConformanceCommand, AnUnexpectedPassDeviatesInStrictModeOnly) {
  Program({"promoted"});
  EXPECT_EQ(Run({}).status.code, 0);
  EXPECT_THAT(ReadWholeFile(Report() / "junit.xml", 1 << 20), HasSubstr("failures=\"0\""));
  EXPECT_EQ(Run({"--strict"}).status.code, 1);
  EXPECT_THAT(ReadWholeFile(Report() / "junit.xml", 1 << 20), HasSubstr("failures=\"1\""));
}

TEST_F(ConformanceCommand, ATestThatCrashesOrTellsNothingFailsAndTheRunGoesOn) {
  Program({"crash", "silent", "code", "good"});
  EXPECT_EQ(Run({}).status.code, 1);
  EXPECT_THAT(ResultOf("crash").at("reason"), HasSubstr("SIGSEGV"));
  EXPECT_EQ(ReadWholeFile(Report() / ResultOf("crash").at("log"), 100), "before\n");
  EXPECT_EQ(ResultOf("silent").at("outcome"), "fail");
  EXPECT_EQ(ResultOf("code").at("outcome"), "fail") << "it said pass, but ended otherwise";
  EXPECT_EQ(ResultOf("good").at("outcome"), "pass");
}

TEST_F(ConformanceCommand, ATestThatPrintsWithoutEndFails) {
  Program({"flood", "good"});
  EXPECT_EQ(Run({}).status.code, 1);
  EXPECT_THAT(ResultOf("flood").at("reason"), HasSubstr("it printed more than 64 MiB"));
  EXPECT_LT(fs::file_size(Report() / ResultOf("flood").at("log")), 1 << 20);
  EXPECT_EQ(ResultOf("good").at("outcome"), "pass");
}

TEST_F(ConformanceCommand, AnInterruptedOneSaysThatItIsAPart) {
  Program({"good", "hang", "silent"});
  StartedMayfly mayfly({"conformance", "run", "--driver", "qemu", "--report", Report().string()}, Options());
  ASSERT_TRUE(mayfly.WaitForOut("it is good"));
  mayfly.process().Signal(SIGINT);
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, 2) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
  EXPECT_EQ(Results().at("complete"), false);
  EXPECT_EQ(ResultOf("good").at("outcome"), "pass");
  EXPECT_EQ(ResultOf("hang").at("outcome"), "not_run") << ResultOf("hang");
  EXPECT_EQ(ResultOf("silent").at("outcome"), "not_run");
  EXPECT_THAT(ReadWholeFile(Report() / "report.md", 1 << 20), HasSubstr("interrupted"));
}

TEST_F(ConformanceCommand, AKilledOneLeavesNothing) {
  Program({"good", "hang"});
  StartedMayfly mayfly({"conformance", "run", "--driver", "qemu"}, Options());
  ASSERT_TRUE(mayfly.WaitForOut("it is good"));
  mayfly.process().Signal(SIGKILL);
  mayfly.Wait();
  EXPECT_EQ(mayfly.Leftovers(), "");
}

TEST_F(ConformanceCommand, RecordsEvidenceInASourceTreeOnly) {
  Program({"good"});
  Run({});
  Outcome elsewhere = RunMayfly({"conformance", "run", "--driver", "qemu", "--record"}, Options());
  EXPECT_EQ(elsewhere.status.code, 2);
  EXPECT_THAT(elsewhere.err, HasSubstr("mayfly's source tree, and there is no matrix/capabilities.json here"));
  EXPECT_EQ(RunMayfly({"conformance", "record", Report() / "results.json"}, Options()).status.code, 1);
}

TEST_F(ConformanceCommand, TellsWhatItCannotRun) {
  Program({"good"});
  auto run = [&](const std::vector<std::string>& words) { return RunMayfly(words, Options()); };
  Outcome driver = run({"conformance", "run", "--driver", "qemo"});
  EXPECT_EQ(driver.status.code, 2);
  EXPECT_THAT(driver.err, HasSubstr("did you mean \"qemu\"?"));
  Outcome filter = run({"conformance", "run", "--driver", "qemu", "--filter", "gpu.*"});
  EXPECT_EQ(filter.status.code, 2);
  EXPECT_THAT(filter.err, HasSubstr("means no test"));
  EXPECT_EQ(run({"conformance", "run", "--driver", "qemu", "--jobs", "0"}).status.code, 2);
  WriteWholeFile(directory_ / "old.json", "{\"format\": 2}");
  Outcome compare = run({"conformance", "run", "--driver", "qemu", "--compare", directory_ / "old.json"});
  EXPECT_EQ(compare.status.code, 2);
  EXPECT_THAT(compare.err, HasSubstr("results.json"));
  Outcome program =
      RunMayfly({"conformance", "run", "--driver", "qemu"}, {.environment = {{"MAYFLY_CONFORMANCE", "/none"}}});
  EXPECT_EQ(program.status.code, 2);
  EXPECT_THAT(program.err, HasSubstr("MAYFLY_CONFORMANCE: /none"));
}

// --- Runner, where the command line's limits are too long to wait for ------------------------------------------------

TEST_F(ConformanceCommand, ATestThatHangsIsEndedAndOneThatLeavesAProcessFails) {
  Program({"leave", "good"});
  internal::HostView view(internal::LoadMatrix(), internal::ProbeAll());
  RunnerOptions options{.program = directory_ / "program",
                        .cases = ListCases(directory_ / "program"),
                        .directory = Report(),
                        .for_leftovers = std::chrono::milliseconds(50)};
  ConformanceRunner leaving(options, view);
  EXPECT_TRUE(leaving.Run([](const CellResult&, size_t, size_t) {}));
  EXPECT_EQ(leaving.results()[0].outcome, "fail");
  EXPECT_THAT(leaving.results()[0].reason, AllOf(HasSubstr("it left sleep ("), HasSubstr("running")));
  EXPECT_EQ(leaving.results()[1].outcome, "pass");

  Program({"hang", "good"});
  options.cases = ListCases(options.program);
  options.timeout = std::chrono::milliseconds(50);
  options.after_timeout = {};
  ConformanceRunner hanging(options, view);
  EXPECT_TRUE(hanging.Run([](const CellResult&, size_t, size_t) {}));
  EXPECT_EQ(hanging.results()[0].outcome, "fail");
  EXPECT_THAT(hanging.results()[0].reason, HasSubstr("it was not done after 50 ms"));
}

TEST(ConformanceFilter, TakesPatternsOfCapabilitiesAndTests) {
  CellCase of{.test = "conformance.qemu.cpu.hotplug.more_than_max", .driver = "qemu", .capability = "cpu.hotplug"};
  for (const char* filter : {"", "cpu.*", "cpu.hotplug", "*.hotplug", "x:cpu.*", "cpu.hotplug.more*", "cpu.h?tplug"}) {
    EXPECT_TRUE(Matches(filter, of)) << filter;
  }
  for (const char* filter : {"cpu", "memory.*", "qemu.*", "cpu.hotplug.less", "a:b"}) {
    EXPECT_FALSE(Matches(filter, of)) << filter;
  }
}

TEST(ConformanceRecord, IsTheSameAfterBeingWrittenAndRead) {
  ConformanceRun run{
      .driver = "qemu",
      .started = "2026-11-25T14:00:00Z",
      .version = "1",
      .seconds = 1.5,
      .complete = true,
      .host = {{"cpu", "x"}},
      .results = {{.of = {.test = "t", .driver = "qemu", .capability = "cpu.count", .claim = "c", .kind = "claim"},
                   .status = "supported",
                   .outcome = "fail",
                   .reason = "a\nb",
                   .seconds = 1,
                   .facts = {{"vmm", "Q"}},
                   .log = "l",
                   .artefacts = {"a"}}}};
  auto written = ToJson(run);
  EXPECT_EQ(ToJson(ConformanceRunFrom(json::parse(written.dump()), "x")), written);
  json wrong = json::parse(written.dump());
  wrong["results"][0]["outcome"] = "fine";
  EXPECT_THROW(ConformanceRunFrom(wrong, "x"), BadSpec);
}

TEST(ConformanceRecord, ACellIsAsGoodAsTheWorstOfItsClaims) {
  auto cell = [](const std::vector<std::pair<std::string, std::string>>& kinds) {
    std::vector<CellResult> results;
    for (const auto& [kind, outcome] : kinds) results.push_back({.of = {.kind = kind}, .outcome = outcome});
    std::vector<const CellResult*> pointers;
    for (const CellResult& result : results) pointers.push_back(&result);
    return OutcomeOfCell(pointers);
  };
  EXPECT_EQ(cell({{"claim", "pass"}, {"claim", "fail"}}), "fail");
  EXPECT_EQ(cell({{"claim", "pass"}, {"refusal", "fail"}}), "fail");
  EXPECT_EQ(cell({{"claim", "pass"}, {"claim", "not_verified"}}), "pass");
  EXPECT_EQ(cell({{"claim", "not_verified"}, {"refusal", "pass"}}), "not_verified");
  EXPECT_EQ(cell({{"claim", "expected_failure"}, {"refusal", "pass"}}), "expected_failure");
  EXPECT_EQ(cell({}), "not_run");
}

}  // namespace
}  // namespace mayfly::cli
