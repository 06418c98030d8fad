#include "conformance/cells.h"

#include <fmt/format.h>
#include <gtest/gtest-spi.h>
#include <mayfly/driver.h>
#include <mayfly/internal/host_needs.h>
#include <mayfly/internal/host_view.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <utility>

#include "conformance/outcome.h"

namespace mayfly::conformance {
namespace {

using internal::CellStatus;
using internal::HostView;
using internal::Lack;
using internal::Matrix;

bool IsStrict() {
  const char* value = std::getenv("MAYFLY_CONFORMANCE_STRICT");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return value != nullptr && *value != '\0' && std::string_view(value) != "0";
}

// Whether who runs this wants the scenarios of a simulated backend to run, for what that is worth.
bool WantsSimulated() {
  const char* value = std::getenv("MAYFLY_CONFORMANCE_SIMULATED");  // NOLINT(concurrency-mt-unsafe)
  return value != nullptr && std::string_view(value) == "1";
}

// This host, probed on first use: listing the tests looks at nothing.
const HostView& View(const Matrix& matrix) {
  static const HostView& view =
      *new HostView(matrix, internal::ProbeAll(),
                    WantsSimulated() ? internal::Simulation::kCounts : internal::Simulation::kShowsNothing);
  return view;
}

// What a test of this cell makes of its scenario. The driver of a simulated backend offers what it has; there no real
// one has shown it, so the matrix says planned, and it has to hold all the same.
CellStatus StatusOf(const Matrix& matrix, const std::string& driver, Capability capability) {
  CellStatus status = matrix.Find(mayfly::ToString(capability))->cells.at(driver).status;
  if (status != CellStatus::kPlanned || !View(matrix).IsSimulated(driver)) return status;
  const CapabilityReport* report = View(matrix).ReportOf(driver, mayfly::ToString(capability));
  return report != nullptr && report->available ? CellStatus::kSupported : status;
}

std::string TextOf(const testing::TestPartResult& result) {
  if (result.file_name() == nullptr) return result.message();
  return fmt::format("{}:{}: {}", result.file_name(), result.line_number(), result.message());
}

// Runs a scenario that may be refused or fail; its failed expectations are kept from GoogleTest.
ScenarioRun RunToJudge(Scenario& scenario) {
  ScenarioRun run;
  testing::TestPartResultArray results;
  {
    testing::ScopedFakeTestPartResultReporter caught(testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS,
                                                     &results);
    try {
      scenario.Run();
    } catch (const Unsupported& error) {
      run.refused = error.capability();
      run.failures.emplace_back(error.what());
    } catch (const HostLacks& error) {
      if (!scenario.began()) run.host_lacks = error.what();
      run.failures.emplace_back(error.what());
    } catch (const std::exception& error) {
      run.failures.emplace_back(error.what());
    }
  }
  for (int i = 0; i < results.size(); ++i) {
    const testing::TestPartResult& result = results.GetTestPartResult(i);
    if (result.failed()) run.failures.push_back(TextOf(result));
  }
  return run;
}

class CellTest : public testing::Test {
 public:
  CellTest(const Matrix& matrix, std::string driver, const ScenarioEntry& entry)
      : matrix_(matrix), driver_(std::move(driver)), entry_(entry) {}

 private:
  void TestBody() override {
    CellStatus status = StatusOf(matrix_, driver_, entry_.capability);
    if (std::string lacks = Lacks(status); !lacks.empty()) {
      RecordProperty("mayfly_outcome", std::string(ToString(Outcome::kNotVerified)));
      GTEST_SKIP() << "not verified here: " << lacks;
    }
    std::unique_ptr<Scenario> scenario = entry_.make();
    scenario->Use(driver_, entry_.capability);
    if (status == CellStatus::kSupported) {
      RunSupported(*scenario);
      return;
    }
    ScenarioRun run = RunToJudge(*scenario);
    RecordFacts(*scenario);
    if (internal::IsRefused(status)) run.harm = scenario->Harm();
    Tell(Judge(status, entry_.capability, entry_.kind, run));
  }

  // Fails as any test does: with the place of each failure, and what is thrown told by its class.
  void RunSupported(Scenario& scenario) {
    try {
      scenario.Run();
      RecordFacts(scenario);
    } catch (const HostLacks& error) {
      RecordFacts(scenario);
      Tell({scenario.began() ? Outcome::kFail : Outcome::kNotVerified, error.what()});
      return;
    } catch (...) {
      RecordFacts(scenario);
      Tell({Outcome::kFail, ""});
      throw;
    }
    Tell({HasFailure() ? Outcome::kFail : Outcome::kPass, ""});
  }

  static void RecordFacts(const Scenario& scenario) {
    for (const auto& [name, fact] : scenario.facts()) RecordProperty("mayfly_" + name, fact);
  }

  std::string Lacks(CellStatus status) const {
    std::string text;
    auto add = [&](const std::string& reason, const std::string& fix) {
      text += fmt::format("{}{}{}{}", text.empty() ? "" : "; ", reason, fix.empty() ? "" : "; ", fix);
    };
    for (const Lack& lack : View(matrix_).LacksOf(driver_, mayfly::ToString(entry_.capability)))
      add(lack.reason, lack.fix);
    if (internal::IsRefused(status)) return text;  // a refusal needs no more than the driver
    for (const std::string& need : entry_.needs) {
      if (std::optional<Lack> lack = View(matrix_).LackOf(need)) add(lack->reason, lack->fix);
    }
    return text;
  }

  void Tell(const Verdict& verdict) {
    RecordProperty("mayfly_outcome", std::string(ToString(verdict.outcome)));
    if (verdict.outcome == Outcome::kNotVerified) GTEST_SKIP() << "not verified here: " << verdict.text;
    if (verdict.outcome != Outcome::kFail && !verdict.text.empty()) RecordProperty("mayfly_reason", verdict.text);
    if (Fails(verdict.outcome, IsStrict())) {
      if (!verdict.text.empty()) ADD_FAILURE_AT(entry_.file, entry_.line) << verdict.text;
    } else if (verdict.outcome != Outcome::kPass) {
      std::fputs(fmt::format("[ {:<8} ] {}\n", ToString(verdict.outcome), verdict.text).c_str(), stdout);
    }
  }

  const Matrix& matrix_;
  const std::string driver_;
  const ScenarioEntry& entry_;
};

// Where all of a capability is refused, the claim shows that; how it is refused in part says nothing.
bool HasTest(const Matrix& matrix, const std::string& driver, const ScenarioEntry& entry) {
  CellStatus status = matrix.Find(mayfly::ToString(entry.capability))->cells.at(driver).status;
  return !internal::IsRefused(status) || entry.kind == ScenarioKind::kClaim;
}

bool IsLinked(const std::string& driver) {
  const std::vector<Driver*>& all = AllDrivers();
  return std::any_of(all.begin(), all.end(), [&](const Driver* each) { return each->Name() == driver; });
}

// Why this system can never have the backend; nothing when it can.
std::optional<std::string> WhyElsewhere(const internal::MatrixDriver& driver) {
  for (const std::string& need : driver.needs) {
    bool system = need == "macos" || need == "linux";
    if (std::optional<std::string> reason = system ? internal::WhyHostLacks(need) : std::nullopt) return reason;
  }
  return std::nullopt;
}

// In place of all cells of a backend that is not in this build, or is of another system.
class AbsentTest : public testing::Test {
 public:
  AbsentTest(const Matrix& matrix, std::string driver, std::optional<std::string> why)
      : matrix_(matrix), driver_(std::move(driver)), why_(std::move(why)) {}

 private:
  void TestBody() override {
    RecordProperty("mayfly_outcome", std::string(ToString(Outcome::kNotVerified)));
    std::string not_built = HostView(matrix_, {}).LacksOf(driver_, matrix_.rows.front().id).front().reason;
    GTEST_SKIP() << "not verified here: " << matrix_.rows.size() << " cells: " << why_.value_or(not_built);
  }

  const Matrix& matrix_;
  const std::string driver_;
  const std::optional<std::string> why_;
};

}  // namespace

std::vector<std::string> FaultsBetween(const Matrix& matrix, const std::vector<ScenarioEntry>& scenarios) {
  std::vector<std::string> faults;
  std::set<std::string> names;
  for (const ScenarioEntry& entry : scenarios) {
    std::string id(mayfly::ToString(entry.capability));
    if (matrix.Find(id) == nullptr) {
      faults.push_back(fmt::format("{}:{}: there is no row \"{}\" in the matrix", entry.file, entry.line, id));
    }
    if (!names.insert(id + "." + entry.Case()).second) {
      faults.push_back(fmt::format("{}:{}: {} has another scenario of that name", entry.file, entry.line, id));
    }
    for (const std::string& need : entry.needs) {
      if (matrix.FindNeed(need) == nullptr) {
        faults.push_back(fmt::format("{}:{}: the matrix has no need \"{}\"", entry.file, entry.line, need));
      }
    }
  }
  for (const internal::MatrixRow& row : matrix.rows) {
    bool has_one = std::any_of(scenarios.begin(), scenarios.end(), [&](const ScenarioEntry& entry) {
      return entry.kind == ScenarioKind::kClaim && mayfly::ToString(entry.capability) == row.id;
    });
    if (!has_one) faults.push_back(fmt::format("matrix: {} has no SCENARIO_FOR it in conformance/scenarios", row.id));
  }
  return faults;
}

void RequireNoFaults(const Matrix& matrix) {
  std::vector<std::string> faults = FaultsBetween(matrix, AllScenarios());
  if (!faults.empty()) throw BadSpec({.summary = faults.front(), .notes = {faults.begin() + 1, faults.end()}});
}

nlohmann::ordered_json ListCells(const Matrix& matrix) {
  RequireNoFaults(matrix);
  auto all = nlohmann::ordered_json::array();
  for (const internal::MatrixDriver& driver : matrix.drivers) {
    for (const ScenarioEntry& entry : AllScenarios()) {
      if (!HasTest(matrix, driver.id, entry)) continue;
      std::string_view capability = mayfly::ToString(entry.capability);
      all.push_back({{"test", fmt::format("conformance.{}.{}.{}", driver.id, capability, entry.Case())},
                     {"driver", driver.id},
                     {"capability", capability},
                     {"claim", entry.claim},
                     {"kind", entry.kind == ScenarioKind::kClaim ? "claim" : "refusal"},
                     {"needs", entry.needs}});
    }
  }
  return all;
}

void RegisterCells(const Matrix& matrix) {
  RequireNoFaults(matrix);
  static const Matrix& kept = *new Matrix(matrix);  // the tests outlive the caller's
  for (const internal::MatrixDriver& driver : kept.drivers) {
    const std::string suite = "conformance." + driver.id;
    std::optional<std::string> elsewhere = WantsSimulated() ? std::nullopt : WhyElsewhere(driver);
    if (elsewhere || !IsLinked(driver.id)) {
      testing::RegisterTest(
          suite.c_str(), "all", nullptr, nullptr, __FILE__, __LINE__,
          [&driver, elsewhere]() -> testing::Test* { return new AbsentTest(kept, driver.id, elsewhere); });
      continue;
    }
    for (const ScenarioEntry& entry : AllScenarios()) {
      if (!HasTest(kept, driver.id, entry)) continue;
      std::string test = fmt::format("{}.{}", mayfly::ToString(entry.capability), entry.Case());
      testing::RegisterTest(suite.c_str(), test.c_str(), nullptr, nullptr, entry.file, entry.line,
                            [&driver, &entry]() -> testing::Test* { return new CellTest(kept, driver.id, entry); });
    }
  }
}

}  // namespace mayfly::conformance
