#include "cli/evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <nlohmann/json.hpp>

namespace mayfly::cli {
namespace {

using internal::CellStatus;
using internal::Matrix;
using internal::ReadWholeFile;
using internal::TestDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CellCase Case(const std::string& capability, const std::string& claim, const std::string& kind = "claim") {
  return {.test = capability + claim, .driver = "qemu", .capability = capability, .claim = claim, .kind = kind};
}

CellResult Result(const CellCase& of, const std::string& outcome) {
  return {.of = of, .status = "supported", .outcome = outcome, .seconds = 1.24, .facts = {{"vmm", "QEMU 7.2.22"}}};
}

ConformanceRun RunOf(std::vector<CellResult> results) {
  return {.driver = "qemu",
          .started = "2026-11-25T14:00:00Z",
          .version = "0.1",
          .commit = "abc",
          .complete = true,
          .host = {{"kernel", "Linux 6.18"}, {"cpu", "x"}, {"memory", "1 GiB"}},
          .results = std::move(results)};
}

Matrix OneCell(CellStatus status) {
  Matrix matrix;
  matrix.rows.push_back({.id = "cpu.count", .cells = {{"qemu", {.status = status}}}});
  return matrix;
}

const CellCase kCount = Case("cpu.count", "it is so");
const CellCase kRefusal = Case("cpu.count", "not that", "refusal");

TEST(Evidence, IsTheSameAfterBeingWrittenAndRead) {
  TestDirectory directory;
  std::vector<Evidence> records =
      EvidenceFrom(RunOf({Result(kCount, "pass"), Result(kRefusal, "pass")}), {kCount, kRefusal});
  ASSERT_EQ(records.size(), 1U);
  WriteEvidence(records[0], directory.path());
  EvidenceOfCells read = ReadEvidence(directory.path());
  const Evidence& record = read.at({"qemu", "cpu.count"});
  EXPECT_TRUE(record.Proves());
  EXPECT_EQ(record.vmm.at("vmm"), "QEMU 7.2.22");
  EXPECT_EQ(record.tests.at(0).seconds, 1.2);
  EXPECT_EQ(record.tests.at(1).kind, "refusal");
  EXPECT_THAT(record.host, testing::Not(testing::Contains(testing::Key("memory"))));
  std::string before = ReadWholeFile(directory / "qemu/cpu.count.json", 1 << 20);
  WriteEvidence(record, directory.path());
  EXPECT_EQ(ReadWholeFile(directory / "qemu/cpu.count.json", 1 << 20), before);
  EXPECT_EQ(SummaryOf(record), "2026-11-25: QEMU 7.2.22, Linux 6.18, commit abc");
  EXPECT_GT(DaysOld(record) + 1, 0);
}

TEST(Evidence, IsOfCellsThatWereRunWhole) {
  std::vector<CellCase> all = {kCount, kRefusal, Case("cpu.hotplug", "a"), Case("cpu.affinity", "b")};
  ConformanceRun run =
      RunOf({Result(kCount, "pass"), Result(all[2], "not_verified"), Result(all[3], "unexpected_pass")});
  std::vector<Evidence> records = EvidenceFrom(run, all);
  ASSERT_EQ(records.size(), 1U) << "of the first its refusal was filtered out, the second says nothing";
  EXPECT_EQ(records[0].capability, "cpu.affinity");
  EXPECT_EQ(records[0].outcome, "pass") << "that it was not expected says nothing against it";
  EXPECT_THAT(EvidenceFrom(RunOf({Result(kCount, "pass"), Result(kRefusal, "not_run")}), all), IsEmpty());
}

TEST(EvidenceFaults, AreSupportedCellsThatNothingProves) {
  ConformanceRun run = RunOf({Result(kCount, "pass")});
  auto faults = [&](CellStatus status) {
    EvidenceOfCells evidence;
    for (Evidence& record : EvidenceFrom(run, {kCount})) evidence[{"qemu", "cpu.count"}] = std::move(record);
    return EvidenceFaults(OneCell(status), evidence);
  };
  EXPECT_THAT(faults(CellStatus::kSupported), IsEmpty());
  run.simulated = true;
  EXPECT_THAT(faults(CellStatus::kSupported), ElementsAre(HasSubstr("its evidence is simulated")));
  run.simulated = false;
  run.results[0].outcome = "fail";
  EXPECT_THAT(faults(CellStatus::kSupported), ElementsAre(HasSubstr("its evidence of 2026-11-25 says \"fail\"")));
  EXPECT_THAT(faults(CellStatus::kPlanned), IsEmpty());
  run.results.clear();
  EXPECT_THAT(faults(CellStatus::kSupported),
              ElementsAre(AllOf(HasSubstr("cpu.count: drivers.qemu: it is supported, but nothing shows it"),
                                HasSubstr("--filter cpu.count --record"))));
}

TEST(EvidenceFaults, AreRecordsOfCellsThatAreNotThere) {
  EvidenceOfCells evidence;
  evidence[{"qemu", "gpu.count"}] = {};
  EXPECT_THAT(EvidenceFaults(OneCell(CellStatus::kPlanned), evidence),
              ElementsAre("evidence/qemu/gpu.count.json: the matrix has no such cell"));
}

TEST(ReadEvidence, RefusesWhatIsNoRecordAndWhatLiesInAnotherOnesPlace) {
  TestDirectory directory;
  EXPECT_THAT(ReadEvidence(directory / "none"), IsEmpty());
  std::vector<Evidence> records = EvidenceFrom(RunOf({Result(kCount, "pass")}), {kCount});
  WriteEvidence(records.at(0), directory.path());
  std::filesystem::rename(directory / "qemu/cpu.count.json", directory / "qemu/cpu.hotplug.json");
  EXPECT_THROW(ReadEvidence(directory.path()), BadSpec);
  std::filesystem::remove(directory / "qemu/cpu.hotplug.json");
  records[0].outcome = "splendid";
  WriteEvidence(records[0], directory.path());
  try {
    ReadEvidence(directory.path());
    ADD_FAILURE() << "it was taken";
  } catch (const BadSpec& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("cpu.count.json: outcome"), HasSubstr("splendid")));
  }
}

}  // namespace
}  // namespace mayfly::cli
