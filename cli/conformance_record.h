// What a run of the conformance suite found, as `mayfly conformance run` collects, writes and reads it.
//
//   ConformanceRun run = …;
//   internal::WriteWholeFile("results.json", ToJson(run).dump(2));
//   ConformanceRun before = ConformanceRunFrom(nlohmann::json::parse(text));
//
// The JSON form is described by matrix/results.schema.json.
#pragma once

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::cli {

// How a test of a cell ended. The first six are conformance/outcome.h's words.
struct OutcomeWord {
  std::string_view name;     // in JSON
  std::string_view words;    // for people
  std::string_view meaning;  // a sentence without its end
};
inline constexpr std::array<OutcomeWord, 7> kOutcomeWords = {{
    {"pass", "pass", "the claim held"},
    {"fail", "FAIL", "not as the matrix says"},
    {"expected_failure", "expected failure", "planned, and not there yet"},
    {"unexpected_pass", "unexpected pass", "planned, yet the claim held: the cell asks to be promoted"},
    {"refused", "refused", "refused with Unsupported, as the matrix says"},
    {"not_verified", "not verified here", "this host lacks what it needs"},
    {"not_run", "not run", "the run ended before"},
}};
const OutcomeWord& WordOf(std::string_view outcome);  // of an unknown one: "fail"

// A scenario with a backend, as the conformance program lists it.
struct CellCase {
  std::string test{};  // its name, which the program's filter takes
  std::string driver{};
  std::string capability{};
  std::string claim{};
  std::string kind{};                // "claim" or "refusal"
  std::vector<std::string> needs{};  // besides those of its cell
  friend bool operator==(const CellCase&, const CellCase&) = default;
};

struct CellResult {
  CellCase of{};
  std::string status{};  // of the cell, in the matrix
  std::string outcome = "not_run";
  std::string reason{};                        // why, lines
  double seconds = 0;                          // of its process
  std::map<std::string, std::string> facts{};  // "vmm", "machine", "accelerator", "image": of the VM that it booted
  std::string log{};                           // what it printed; in a report: a path from there
  std::vector<std::string> artefacts{};        // likewise
};

struct ConformanceRun {
  std::string driver{};
  std::string filter{};
  std::string started{};  // "2026-11-25T14:00:00Z"
  std::string version{};  // of mayfly
  std::string commit{};   // of the source tree in which it ran; empty: in none
  double seconds = 0;
  bool complete = false;  // false: it was interrupted
  bool strict = false;
  bool simulated = false;                     // no real VMM: no evidence
  std::map<std::string, std::string> host{};  // "system", "kernel", "cpu", "cpus", "memory"
  std::map<std::string, std::string> vmm{};   // facts that its VMs had in common, "version"
  std::vector<CellResult> results{};

  // How often each outcome is there.
  std::map<std::string, size_t> Counts() const;
};

// Whether a result is not as the matrix says.
bool Deviates(const CellResult& result, bool strict);

// The outcome of a cell with several tests: that of the worst of its claims and refusals.
std::string OutcomeOfCell(const std::vector<const CellResult*>& results);

nlohmann::ordered_json ToJson(const ConformanceRun& run);
// Throws BadSpec with what is wrong.
ConformanceRun ConformanceRunFrom(const nlohmann::json& json, std::string_view origin);

}  // namespace mayfly::cli
