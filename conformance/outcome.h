// What a run of a scenario means for its cell.
//
// | status    | what a claim did                        | outcome          |
// | --------- | --------------------------------------- | ---------------- |
// | supported | held                                    | pass             |
// | supported | failed, or was refused                  | fail             |
// | planned   | failed, or was refused                  | expected failure |
// | planned   | held: it asks to be promoted            | unexpected pass  |
// | refused   | was refused by Unsupported, no VM hurt  | refused          |
// | refused   | anything else                           | fail             |
// | any       | this host lacks what it needs           | not verified     |
//
// "refused" are not_possible, not_wrapped, not_planned and not_applicable. An unexpected pass fails in strict mode.
// A refusal (REFUSAL_FOR) that holds passes: it does not show that the capability is there. Where all of the capability
// is refused there is no test of it.
#pragma once

#include <mayfly/capability.h>
#include <mayfly/internal/matrix.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conformance/scenario.h"

namespace mayfly::conformance {

enum class Outcome { kPass, kFail, kExpectedFailure, kUnexpectedPass, kRefused, kNotVerified };
std::string_view ToString(Outcome outcome);  // "pass", "expected_failure", …

// What happened.
struct ScenarioRun {
  std::vector<std::string> failures{};      // what it found wrong, and the error that ended it
  std::optional<Capability> refused{};      // it ended by Unsupported, for this capability
  std::optional<std::string> host_lacks{};  // it ended by HostLacks
  std::optional<std::string> harm{};        // what is wrong with its VMs afterwards
};

struct Verdict {
  Outcome outcome = Outcome::kFail;
  std::string text{};  // why, for people; lines
};

Verdict Judge(internal::CellStatus status, Capability capability, ScenarioKind kind, const ScenarioRun& run);

// Whether the test of a cell with this outcome fails.
bool Fails(Outcome outcome, bool strict);

}  // namespace mayfly::conformance
