// mayfly conformance with real guests, and its page in a real browser.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/internal/test_directory.h>

#include <nlohmann/json.hpp>

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
  Outcome outcome = RunMayfly({"conformance", "run", "--driver", "vz"});
  EXPECT_EQ(outcome.status.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr(" not verified here with vz"), Not(HasSubstr(" pass"))));
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
