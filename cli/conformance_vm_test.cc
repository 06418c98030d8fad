// mayfly conformance with real guests, and its page in a real browser.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/internal/test_directory.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/conformance_report.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using internal::ReadWholeFile;
using internal::TestDirectory;
using internal::WriteWholeFile;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(ConformanceOfRealGuests, IsReportedWithWhatItRanOn) {
  TestDirectory directory;
  Outcome outcome = RunMayfly(
      {"conformance", "run", "--driver", "qemu", "--filter", "cpu.count:platform.rosetta", "--report", directory / "r"},
      {.timeout = std::chrono::seconds(240)});
  EXPECT_EQ(outcome.status.code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("2 pass, 1 refused with qemu"));
  json all = json::parse(ReadWholeFile(directory / "r" / "results.json", 1 << 20));
  EXPECT_THAT(all.at("vmm").at("vmm").get<std::string>(), HasSubstr("QEMU "));
  EXPECT_EQ(all.at("complete"), true);
  EXPECT_EQ(all.at("simulated"), false);
}

TEST(ConformanceOfRealGuests, IsNotVerifiedWhereTheBackendIsNotThere) {
  Outcome outcome =
      RunMayfly({"conformance", "run", "--driver", "vz"}, {.environment = {{"MAYFLY_VZ", "/nowhere/mayfly-vz"}}});
  EXPECT_EQ(outcome.status.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr(" not verified here with vz"), Not(HasSubstr(" pass"))));
}

// The QEMU of a test that runs below `runtime`, once there is one.
pid_t FindQemu(const std::filesystem::path& runtime) {
  for (Deadline deadline = Deadline::After(Scaled(std::chrono::seconds(60))); !deadline.Passed();) {
    for (pid_t pid : internal::ProcessesThatKnow(runtime.string(), {"environ"})) {
      // A VM's, not one that is only asked for its version.
      std::ifstream stream("/proc/" + std::to_string(pid) + "/cmdline");
      std::string words{std::istreambuf_iterator<char>(stream), {}};
      if (words.find("guest=") != std::string::npos) return pid;
    }
  }
  return -1;
}

TEST(ConformanceOfRealGuests, AVmmThatCrashesFailsItsCellWithItsArtefactsAndTheRunGoesOn) {
  TestDirectory directory;
  std::filesystem::path report = directory / "r";
  StartedMayfly mayfly({"conformance", "run", "--driver", "qemu", "--filter",
                        "cpu.count.the_guest*:lifecycle.reboot.a_reboot*", "--report", report},
                       {.timeout = std::chrono::seconds(240)});
  pid_t qemu = FindQemu(mayfly.runtime());
  ASSERT_GT(qemu, 0) << mayfly.err();
  ASSERT_EQ(kill(qemu, SIGSEGV), 0);
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, 1) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr("1 pass, 1 FAIL with qemu"));
  json first = json::parse(ReadWholeFile(report / "results.json", 1 << 20)).at("results").at(0);
  EXPECT_EQ(first.at("outcome"), "fail");
  EXPECT_THAT(first.at("reason").get<std::string>(), HasSubstr("SIGSEGV"));
  std::vector<std::string> artefacts = first.at("artefacts");
  for (const char* file : {"console.log", "vmm.log", "timeline.json", "reproduce.sh"}) {
    EXPECT_THAT(artefacts, testing::Contains(testing::EndsWith(file)));
  }
  EXPECT_EQ(mayfly.Leftovers(), "");
}

// The page after its script has run.
std::string Shown(const TestDirectory& directory, const std::string& page, const std::string& hash) {
  WriteWholeFile(directory / "page.html", page);
  return internal::RunCommand({"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000",
                               "--user-data-dir=" + (directory / "profile").string(), "--dump-dom",
                               "file://" + (directory / "page.html").string() + hash},
                              Scaled(std::chrono::seconds(120)))
      .out;
}

ConformanceRun RunWith(const std::string& outcome, const std::string& reason) {
  return {.driver = "qemu",
          .started = "2026-11-25T14:00:00Z",
          .complete = outcome == "pass",
          .results = {
              {.of = {.test = "t", .driver = "qemu", .capability = "cpu.count", .claim = "the claim", .kind = "claim"},
               .status = "supported",
               .outcome = outcome,
               .reason = reason,
               .log = "logs/t.txt"}}};
}

TEST(ConformancePage, ShowsCellsEvidenceAndWhatHasChangedInABrowser) {
  if (!internal::FindProgram("chromium")) {
    GTEST_SKIP() << "the page was not tested: there is no chromium; Debian: sudo apt-get install chromium";
  }
  TestDirectory directory;
  internal::Matrix matrix = internal::LoadMatrix();
  ConformanceRun now = RunWith("fail", "nproc </script><b>printed</b> 1");
  std::string page = Shown(directory, HtmlOf(now, matrix, RunWith("pass", "")), "#cpu.count");
  EXPECT_THAT(page, HasSubstr("class=\"cell fail changed\" title=\"the guest has the number of vCPUs asked for\""));
  EXPECT_THAT(page, HasSubstr("1 changes since 2026-11-25T14:00:00Z"));
  EXPECT_THAT(page, HasSubstr("<pre>nproc &lt;/script&gt;&lt;b&gt;printed&lt;/b&gt; 1</pre>"))
      << "the cell that is named";
  EXPECT_THAT(page, HasSubstr("<a href=\"logs/t.txt\">t.txt</a>"));
  EXPECT_THAT(page, HasSubstr("class=\"part\">This run was interrupted")) << "not hidden";

  std::string good = Shown(directory, HtmlOf(RunWith("pass", ""), matrix, std::nullopt), "");
  EXPECT_THAT(good, AllOf(HasSubstr("class=\"cell pass\""), HasSubstr("class=\"part\" hidden"),
                          Not(HasSubstr("<div id=\"changes\"><h2>"))));
}

}  // namespace
}  // namespace mayfly::cli
