#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/internal/test_directory.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/matrix_diff.h"
#include "cli/matrix_docs.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::ReadWholeFile;
using internal::TestDirectory;
using internal::WriteWholeFile;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct Result {
  int code = -1;
  std::string text{};  // of both streams
};

Result Mayfly(std::vector<std::string> words) {
  words.insert(words.begin(), std::getenv("MAYFLY_BINARY"));  // NOLINT(concurrency-mt-unsafe)
  internal::CommandOutput output = internal::RunCommand(std::move(words), std::chrono::seconds(30));
  return {output.status.code, output.out};
}

std::string MatrixText() { return ReadWholeFile(internal::MatrixFile(), 1 << 20); }

size_t LinesOf(const std::string& text) { return static_cast<size_t>(std::count(text.begin(), text.end(), '\n')); }

// --- show -----------------------------------------------------------------------------------------------------------

TEST(MatrixShow, TellsAllAboutOneCapability) {
  Result result = Mayfly({"matrix", "show", "cpu.hotplug"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, AllOf(StartsWith("cpu.hotplug  CPU hotplug: "), HasSubstr("PUT vm.resize desired_vcpus"),
                                 HasSubstr("why    CPUCount is fixed")));
  EXPECT_THAT(result.text, Not(HasSubstr("\033"))) << "no colour in a pipe";
}

TEST(MatrixShow, FiltersByDriverGroupAndStatus) {
  json rows = json::parse(
      Mayfly({"matrix", "show", "--driver", "vz", "--group", "cpu", "--status", "not_possible", "--json"}).text);
  std::vector<std::string> ids;
  for (const json& row : rows) {
    ids.push_back(row.at("id"));
    EXPECT_EQ(row.at("drivers").size(), 1U);
    EXPECT_EQ(row.at("drivers").at("vz").at("status"), "not_possible");
  }
  EXPECT_THAT(ids, ElementsAre("cpu.hotplug", "cpu.topology", "cpu.affinity"));
}

TEST(MatrixShow, ListsEveryIdForScripts) {
  EXPECT_EQ(LinesOf(Mayfly({"matrix", "show", "--quiet"}).text), kCapabilityCount);
}

TEST(MatrixShow, AsksWhatWasMeantByAWordThatItDoesNotKnow) {
  EXPECT_THAT(Mayfly({"matrix", "show", "cpu.hotplg"}).text, HasSubstr("did you mean \"cpu.hotplug\"?"));
  EXPECT_THAT(Mayfly({"matrix", "show", "--driver", "vmware"}).text, HasSubstr("known: qemu, ch, vz"));
  EXPECT_THAT(Mayfly({"matrix", "show", "--group", "storag"}).text, HasSubstr("did you mean \"storage\"?"));
  Result status = Mayfly({"matrix", "show", "--status", "suported"});
  EXPECT_EQ(status.code, kFailed);
  EXPECT_THAT(status.text, HasSubstr("did you mean \"supported\"?"));
  EXPECT_EQ(Mayfly({"matrix", "shw"}).code, kUsage);
}

// --- check ----------------------------------------------------------------------------------------------------------

TEST(MatrixCheck, AcceptsTheInstalledOne) {
  Result result = Mayfly({"matrix", "check", internal::MatrixFile()});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, HasSubstr("219 cells: ok"));
  EXPECT_EQ(Mayfly({"matrix", "check", "--quiet", internal::MatrixFile()}).text, "");
}

TEST(MatrixCheck, TellsEachFaultOnALine) {
  TestDirectory directory;
  json document = json::parse(MatrixText());
  document["capabilities"][0]["drivers"]["qemu"]["status"] = "yes";
  document["capabilities"][1]["drivers"]["vz"]["since"] = 14;
  WriteWholeFile(directory / "m.json", document.dump());
  Result result = Mayfly({"matrix", "check", directory / "m.json"});
  EXPECT_EQ(result.code, kFailed);
  EXPECT_THAT(result.text, AllOf(HasSubstr("m.json: lifecycle.boot: drivers.qemu.status: \"yes\" is not allowed"),
                                 HasSubstr("m.json: lifecycle.stop: drivers.vz.since: 14 is not allowed"),
                                 HasSubstr("mayfly: matrix check: 2 faults in ")));
}

TEST(MatrixCheck, AsksForEvidenceOfWhatIsSupported) {
  TestDirectory directory;
  WriteWholeFile(directory / "m.json", MatrixText());
  Result result = Mayfly({"matrix", "check", directory / "m.json"});
  EXPECT_EQ(result.code, kFailed);
  EXPECT_THAT(result.text, HasSubstr("lifecycle.boot: drivers.qemu: it is supported, but nothing shows it"));
  EXPECT_EQ(Mayfly({"matrix", "check", "--without-evidence", directory / "m.json"}).code, 0);
}

TEST(MatrixCheck, SaysThatAFileIsMissingOrNoJson) {
  TestDirectory directory;
  WriteWholeFile(directory / "m.json", "capabilities: yes");
  EXPECT_THAT(Mayfly({"matrix", "check", directory / "m.json"}).text,
              HasSubstr("m.json: is not JSON: line 1, column 1"));
  Result missing = Mayfly({"matrix", "check", directory / "none.json"});
  EXPECT_EQ(missing.code, kFailed);
  EXPECT_THAT(missing.text, HasSubstr("No such file"));
}

// --- docs -----------------------------------------------------------------------------------------------------------

class MatrixDocs : public testing::Test {
 protected:
  MatrixDocs() {
    fs::create_directories(tree_ / "matrix");
    WriteWholeFile(tree_ / "matrix/capabilities.json", MatrixText());
    WriteWholeFile(tree_ / "README.md", "# x\n<!-- matrix -->\n## After\n");
  }
  Result Docs(const std::string& flag) { return Mayfly({"matrix", "docs", flag, "--root", tree_.path()}); }

  TestDirectory tree_;
};

TEST_F(MatrixDocs, AreWrittenOnceAndThenUpToDate) {
  Result stale = Docs("--check");
  EXPECT_EQ(stale.code, kFailed);
  EXPECT_THAT(stale.text, AllOf(HasSubstr("docs/matrix.md, README.md"), HasSubstr("mayfly matrix docs --write")));
  EXPECT_EQ(Docs("--write").code, 0);
  EXPECT_EQ(Docs("--check").code, 0);
  EXPECT_THAT(ReadWholeFile(tree_ / "README.md", 1 << 20),
              AllOf(StartsWith("# x\n<!-- matrix: begin"), HasSubstr("end -->\n## After\n")));
}

TEST_F(MatrixDocs, AreOutOfDateWhenTheMatrixOrTheyChange) {
  Docs("--write");
  json document = json::parse(MatrixText());
  document["capabilities"][0]["gives"] = "something else";
  WriteWholeFile(tree_ / "matrix/capabilities.json", document.dump());
  EXPECT_THAT(Docs("--check").text, AllOf(HasSubstr("docs/matrix.md"), Not(HasSubstr("README.md"))));
  Docs("--write");
  std::string readme = ReadWholeFile(tree_ / "README.md", 1 << 20);
  WriteWholeFile(tree_ / "README.md", readme.replace(readme.find("| CPU |"), 7, "| cpus |"));
  EXPECT_THAT(Docs("--check").text, AllOf(HasSubstr("README.md"), Not(HasSubstr("docs/matrix.md"))));
}

TEST_F(MatrixDocs, AreRefusedOutsideOfASourceTree) {
  fs::remove_all(tree_ / "matrix");
  Result result = Docs("--write");
  EXPECT_EQ(result.code, kFailed);
  EXPECT_THAT(result.text, AllOf(HasSubstr("has no matrix/capabilities.json"), HasSubstr("--root")));
}

TEST(MatrixReadme, GetsASectionWhereNoPlaceIsMarked) {
  internal::Matrix matrix = internal::LoadMatrix();
  std::string once = ReadmeWithTable("# x", matrix);
  EXPECT_THAT(once, AllOf(StartsWith("# x\n\n## What each backend has\n<!-- matrix: begin"), HasSubstr("| Storage |")));
  EXPECT_EQ(ReadmeWithTable(once, matrix), once);
}

TEST(MatrixReadme, IsLeftAloneWhenAMarkerIsMissing) {
  internal::Matrix matrix = internal::LoadMatrix();
  EXPECT_THROW(ReadmeWithTable("x\n<!-- matrix: end -->\n", matrix), BadSpec);
  EXPECT_THROW(ReadmeWithTable("<!-- matrix: begin. -->\nx\n", matrix), BadSpec);
  EXPECT_THROW(ReadmeWithTable("<!-- matrix: end -->\n<!-- matrix: begin. -->\n", matrix), BadSpec);
}

TEST(MatrixPage, HasALineForEachCellWithItsReason) {
  std::string page = MatrixPage(internal::LoadMatrix(), {});
  EXPECT_THAT(page, AllOf(StartsWith("<!-- Generated from matrix/capabilities.json"), HasSubstr("### cpu.hotplug\n"),
                          HasSubstr("- **Virtualization.framework**: not possible: CPUCount is fixed")));
}

// --- diff -----------------------------------------------------------------------------------------------------------

TEST(MatrixDiff, NamesWhatChanged) {
  json before = json::parse(R"({"capabilities": [
    {"id": "a.x", "title": "X", "drivers": {"qemu": {"status": "planned", "why": "later", "api": ["b", "c"]}}},
    {"id": "a.y", "title": "Y"}]})");
  json after = json::parse(R"({"needs": [{"id": "kvm", "fix": "f"}], "capabilities": [
    {"id": "a.z", "title": "Z"},
    {"id": "a.x", "title": "X", "drivers": {"qemu": {"status": "supported", "api": ["b"]}}}]})");
  std::vector<std::string> told;
  for (const MatrixChange& c : ChangesBetween(before, after)) {
    told.push_back(c.row + "|" + c.field + "|" + c.before + "|" + c.after);
  }
  EXPECT_THAT(told, ElementsAre("a.x|drivers.qemu.api|b, c|b", "a.x|drivers.qemu.status|planned|supported",
                                "a.x|drivers.qemu.why|later|", "a.y||there|", "a.z|||there", "kvm|||there"));
  EXPECT_TRUE(ChangesBetween(before, before).empty());
}

TEST(MatrixDiff, ExitsAsDiffDoes) {
  TestDirectory directory;
  json document = json::parse(MatrixText());
  document["capabilities"][0]["drivers"]["vz"]["status"] = "supported";
  WriteWholeFile(directory / "new.json", document.dump());
  WriteWholeFile(directory / "none.json", "[]");
  std::string old = internal::MatrixFile();
  Result changed = Mayfly({"matrix", "diff", old, directory / "new.json"});
  EXPECT_EQ(changed.code, 1);
  EXPECT_EQ(changed.text, "lifecycle.boot: drivers.vz.status: planned → supported\n");
  json changes = json::parse(Mayfly({"matrix", "diff", "--json", old, directory / "new.json"}).text);
  EXPECT_EQ(changes.at(0).at("after"), "supported");
  EXPECT_EQ(Mayfly({"matrix", "diff", old, old}).code, 0);
  EXPECT_EQ(Mayfly({"matrix", "diff", old, directory / "none.json"}).code, kUsage);
  EXPECT_EQ(Mayfly({"matrix", "diff", old, directory / "missing.json"}).code, kUsage);
  EXPECT_EQ(Mayfly({"matrix", "diff", old}).code, kUsage);
}

// --- completion -----------------------------------------------------------------------------------------------------

TEST(MatrixCompletion, KnowsItsWordsInEachShell) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    std::string script = Mayfly({"completion", shell}).text;
    EXPECT_THAT(script, AllOf(HasSubstr("qemu ch vz"), HasSubstr("lifecycle cpu memory"), HasSubstr("not_possible"),
                              HasSubstr("mayfly matrix show --quiet")))
        << shell;
  }
}

}  // namespace
}  // namespace mayfly::cli
