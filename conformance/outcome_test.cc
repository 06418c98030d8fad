#include "conformance/outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/cells.h"

namespace mayfly::conformance {
namespace {

using internal::CellStatus;
using internal::Matrix;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr Capability kRow = Capability::kCpuHotplug;

ScenarioRun Held() { return {}; }
ScenarioRun Failed() { return {.failures = {"nproc printed 1"}}; }
ScenarioRun Refused(Capability capability = kRow) {
  return {.failures = {"'x' has no CPU hotplug"}, .refused = capability};
}

Outcome OutcomeOf(CellStatus status, const ScenarioRun& run, ScenarioKind kind = ScenarioKind::kClaim) {
  return Judge(status, kRow, kind, run).outcome;
}

TEST(Outcome, OfWhatIsSupported) {
  EXPECT_EQ(OutcomeOf(CellStatus::kSupported, Held()), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(CellStatus::kSupported, Failed()), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(CellStatus::kSupported, Refused()), Outcome::kFail);
}

TEST(Outcome, OfWhatIsPlanned) {
  EXPECT_EQ(OutcomeOf(CellStatus::kPlanned, Failed()), Outcome::kExpectedFailure);
  EXPECT_EQ(OutcomeOf(CellStatus::kPlanned, Refused()), Outcome::kExpectedFailure);
  Verdict promoted = Judge(CellStatus::kPlanned, kRow, ScenarioKind::kClaim, Held());
  EXPECT_EQ(promoted.outcome, Outcome::kUnexpectedPass);
  EXPECT_THAT(promoted.text, HasSubstr("cpu.hotplug is planned"));
  EXPECT_FALSE(Fails(Outcome::kUnexpectedPass, false));
  EXPECT_TRUE(Fails(Outcome::kUnexpectedPass, true));
}

TEST(Outcome, OfWhatIsRefused) {
  for (CellStatus status :
       {CellStatus::kNotPossible, CellStatus::kNotWrapped, CellStatus::kNotPlanned, CellStatus::kNotApplicable}) {
    EXPECT_EQ(OutcomeOf(status, Refused()), Outcome::kRefused);
    EXPECT_EQ(OutcomeOf(status, Held()), Outcome::kFail);
    EXPECT_EQ(OutcomeOf(status, Failed()), Outcome::kFail);
    EXPECT_EQ(OutcomeOf(status, Refused(Capability::kCpuCount)), Outcome::kFail) << "for another reason than stated";
  }
  ScenarioRun harmed = Refused();
  harmed.harm = "'vm' failed: killed by SIGSEGV";
  Verdict verdict = Judge(CellStatus::kNotPossible, kRow, ScenarioKind::kClaim, harmed);
  EXPECT_EQ(verdict.outcome, Outcome::kFail);
  EXPECT_THAT(verdict.text, HasSubstr("SIGSEGV"));
}

TEST(Outcome, OfARefusalThatHoldsIsAPassWhateverTheStatus) {
  for (size_t i = 0; i < internal::kCellStatuses.size(); ++i) {
    EXPECT_EQ(OutcomeOf(static_cast<CellStatus>(i), Held(), ScenarioKind::kRefusal), Outcome::kPass);
  }
  EXPECT_EQ(OutcomeOf(CellStatus::kSupported, Failed(), ScenarioKind::kRefusal), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(CellStatus::kPlanned, Refused(), ScenarioKind::kRefusal), Outcome::kExpectedFailure);
  EXPECT_EQ(OutcomeOf(CellStatus::kNotPossible, Failed(), ScenarioKind::kRefusal), Outcome::kFail);
}

TEST(Outcome, OfWhatThisHostCannotShow) {
  ScenarioRun run{.host_lacks = "no huge pages"};
  for (size_t i = 0; i < internal::kCellStatuses.size(); ++i) {
    EXPECT_EQ(OutcomeOf(static_cast<CellStatus>(i), run), Outcome::kNotVerified);
  }
  EXPECT_FALSE(Fails(Outcome::kNotVerified, true));
}

// --- Matrix and scenarios -------------------------------------------------------------------------------------------

Matrix OneRow() {
  Matrix matrix;
  matrix.rows.push_back({.id = "cpu.hotplug"});
  matrix.needs = {{"kvm", "KVM", "use it"}};
  return matrix;
}

ScenarioEntry Entry(Capability capability, const char* claim) {
  ScenarioEntry entry;
  entry.capability = capability;
  entry.claim = claim;
  entry.file = "s.cc";
  entry.line = 7;
  return entry;
}

TEST(FaultsBetween, AreNoneWhenEachHasTheOther) {
  EXPECT_THAT(FaultsBetween(OneRow(), {Entry(kRow, "a"), Entry(kRow, "b")}), IsEmpty());
}

TEST(FaultsBetween, NameARowWithoutAScenario) {
  EXPECT_THAT(FaultsBetween(OneRow(), {}),
              ElementsAre("matrix: cpu.hotplug has no SCENARIO_FOR it in conformance/scenarios"));
}

TEST(FaultsBetween, DoNotTakeARefusalForAClaim) {
  ScenarioEntry refusal = Entry(kRow, "a");
  refusal.kind = ScenarioKind::kRefusal;
  EXPECT_EQ(FaultsBetween(OneRow(), {refusal}).size(), 1U);
}

TEST(FaultsBetween, NameAScenarioWithoutARowOrWithoutANameOfItsOwn) {
  EXPECT_THAT(FaultsBetween(OneRow(), {Entry(kRow, "a"), Entry(Capability::kCpuCount, "a")}),
              ElementsAre("s.cc:7: there is no row \"cpu.count\" in the matrix"));
  EXPECT_THAT(FaultsBetween(OneRow(), {Entry(kRow, "a b"), Entry(kRow, "a-b")}),
              ElementsAre("s.cc:7: cpu.hotplug has another scenario of that name"));
}

TEST(FaultsBetween, NameANeedThatTheMatrixDoesNotKnow) {
  ScenarioEntry entry = Entry(kRow, "a");
  entry.needs = {"kvm", "kmv"};
  EXPECT_THAT(FaultsBetween(OneRow(), {entry}), ElementsAre("s.cc:7: the matrix has no need \"kmv\""));
}

TEST(ScenarioEntry, HasACaseThatAFilterTakesAsItIs) {
  EXPECT_EQ(Entry(kRow, "a hot-added vCPU: runs (guest) threads?").Case(), "a_hot_added_vCPU_runs_guest_threads");
}

}  // namespace
}  // namespace mayfly::conformance
