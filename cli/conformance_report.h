// A run of the conformance suite for its readers: files, and the text that the command prints.
//
//   WriteReport(run, matrix, "report", before);     // report/results.json junit.xml report.md report.html
#pragma once

#include <mayfly/internal/matrix.h>

#include <filesystem>
#include <optional>
#include <string>

#include "cli/conformance_record.h"

namespace mayfly::cli {

// Beside logs/ and artefacts/, which the runner has put there. `before`: another run, to compare it with.
void WriteReport(const ConformanceRun& run, const internal::Matrix& matrix, const std::filesystem::path& directory,
                 const std::optional<ConformanceRun>& before);

std::string JUnitOf(const ConformanceRun& run);
std::string MarkdownOf(const ConformanceRun& run, const internal::Matrix& matrix);
// One file that needs no network; its data is in it.
std::string HtmlOf(const ConformanceRun& run, const internal::Matrix& matrix,
                   const std::optional<ConformanceRun>& before);

// "49 pass, 3 expected failure, 12 not verified here".
std::string CountsInWords(const ConformanceRun& run);

}  // namespace mayfly::cli
