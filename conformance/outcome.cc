#include "conformance/outcome.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

namespace mayfly::conformance {
namespace {

using internal::CellStatus;

std::string Failures(const ScenarioRun& run) { return fmt::format("{}", fmt::join(run.failures, "\n")); }

Verdict JudgeRefusal(CellStatus status, Capability capability, const ScenarioRun& run) {
  std::string_view word = internal::RowOf(status).words;
  if (!run.refused && run.failures.empty()) {
    return {Outcome::kFail, fmt::format("the matrix says \"{}\", but the scenario held", word)};
  }
  if (!run.refused) {
    return {Outcome::kFail, fmt::format("the matrix says \"{}\", so it must be refused with Unsupported; instead:\n{}",
                                        word, Failures(run))};
  }
  if (*run.refused != capability) {
    return {Outcome::kFail, fmt::format("it was refused for another capability, {}:\n{}",
                                        mayfly::ToString(*run.refused), Failures(run))};
  }
  if (run.harm) return {Outcome::kFail, "it was refused, but the VM was harmed: " + *run.harm};
  return {Outcome::kRefused, Failures(run)};
}

}  // namespace

std::string_view ToString(Outcome outcome) {
  constexpr std::array<std::string_view, 6> kNames = {"pass",    "fail",        "expected_failure", "unexpected_pass",
                                                      "refused", "not_verified"};
  return kNames.at(static_cast<size_t>(outcome));
}

Verdict Judge(CellStatus status, Capability capability, ScenarioKind kind, const ScenarioRun& run) {
  if (run.host_lacks) return {Outcome::kNotVerified, *run.host_lacks};
  bool held = run.failures.empty() && !run.harm;
  if (kind == ScenarioKind::kRefusal && held) return {Outcome::kPass, ""};
  if (internal::IsRefused(status)) return JudgeRefusal(status, capability, run);
  if (status == CellStatus::kSupported) {
    return run.failures.empty() ? Verdict{Outcome::kPass, ""} : Verdict{Outcome::kFail, Failures(run)};
  }
  if (!run.failures.empty()) return {Outcome::kExpectedFailure, Failures(run)};
  return {Outcome::kUnexpectedPass,
          fmt::format("{} is planned in matrix/capabilities.json, but the scenario held: make it supported",
                      mayfly::ToString(capability))};
}

bool Fails(Outcome outcome, bool strict) {
  return outcome == Outcome::kFail || (strict && outcome == Outcome::kUnexpectedPass);
}

}  // namespace mayfly::conformance
