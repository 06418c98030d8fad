// The cells of the matrix as GoogleTest tests.
//
// For each backend that is linked in and each scenario there is a test "conformance.<driver>.<capability>.<case>", such
// as conformance.qemu.cpu.hotplug.a_hot_added_vCPU_runs_guest_threads. It skips with the reason when this host lacks
// what the cell needs; it fails as outcome.h says. The outcome is in the report as property mayfly_outcome. A backend
// of the matrix that is not in this build has one test, conformance.<driver>.all, that skips and says why.
//
// Also there: mayfly_reason, and of the first VM that it booted mayfly_vmm, mayfly_machine, mayfly_accelerator and
// mayfly_image.
//
// MAYFLY_CONFORMANCE_STRICT=1 lets an unexpected pass fail.
#pragma once

#include <mayfly/internal/matrix.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conformance/scenario.h"

namespace mayfly::conformance {

// What is wrong between matrix and scenarios: a row without a claim, a scenario without a row, two of one name, a
// need that the matrix does not know.
std::vector<std::string> FaultsBetween(const internal::Matrix& matrix, const std::vector<ScenarioEntry>& scenarios);

// Registers the tests of all backends. Throws BadSpec with all faults. Before RunAllTests.
void RegisterCells(const internal::Matrix& matrix);

// What `mayfly conformance` asks for by --list-cases: each scenario with each backend of the matrix, in the build or
// not, as JSON. Throws BadSpec as RegisterCells.
nlohmann::ordered_json ListCells(const internal::Matrix& matrix);

}  // namespace mayfly::conformance
