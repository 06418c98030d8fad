// What was shown of the cells of the matrix: the records in matrix/evidence, a file a cell.
//
//   for (const Evidence& record : EvidenceFrom(run, ListCases(program))) WriteEvidence(record, "matrix/evidence");
//   EvidenceOfCells evidence = ReadEvidence("matrix/evidence");
//   std::vector<std::string> faults = EvidenceFaults(matrix, evidence);
//
// `mayfly conformance run --record` and `mayfly conformance record` write them; people commit them. They are described
// by matrix/evidence.schema.json. A simulated run is recorded as such, and is no evidence for the real backend.
#pragma once

#include <mayfly/internal/matrix.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cli/conformance_record.h"

namespace mayfly::cli {

struct EvidenceTest {
  std::string claim{};
  std::string kind{};  // "claim" or "refusal"
  std::string outcome{};
  double seconds = 0;
};

struct Evidence {
  std::string driver{};
  std::string capability{};
  std::string outcome{};  // "pass", "fail", "expected_failure" or "refused"
  std::string date{};     // "2026-11-25"
  bool simulated = false;
  std::map<std::string, std::string> vmm{};   // "vmm", "machine", "accelerator", "image"
  std::map<std::string, std::string> host{};  // "system", "kernel", "cpu"
  std::string mayfly{};                       // version
  std::string commit{};
  std::vector<EvidenceTest> tests{};

  // Whether the real backend has shown what the cell claims.
  bool Proves() const { return outcome == "pass" && !simulated; }
};

using EvidenceOfCells = std::map<std::pair<std::string, std::string>, Evidence>;  // by driver and capability

// Of each cell that the run has shown something of, with all its tests; of one that --filter took in part only, or that
// could not be verified there, nothing.
std::vector<Evidence> EvidenceFrom(const ConformanceRun& run, const std::vector<CellCase>& all);

// As DIRECTORY/DRIVER/CAPABILITY.json.
void WriteEvidence(const Evidence& evidence, const std::filesystem::path& directory);

// Nothing where there is no such directory. Throws BadSpec for a file that is no record, or lies in a wrong place.
EvidenceOfCells ReadEvidence(const std::filesystem::path& directory);

// Supported cells that no record proves, and records of cells that the matrix does not have.
std::vector<std::string> EvidenceFaults(const internal::Matrix& matrix, const EvidenceOfCells& evidence);

// "2026-11-25: QEMU 7.2.22 (q35, tcg), Linux 6.18.44 x86_64, commit 0123456789ab".
std::string SummaryOf(const Evidence& evidence);

// Whole days from the record's date to now; never negative.
int DaysOld(const Evidence& evidence);

}  // namespace mayfly::cli
