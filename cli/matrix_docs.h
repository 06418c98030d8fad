// What is generated from the matrix and its evidence and lives in the repository: docs/matrix.md and the table in
// README.md.
//
//   for (const MatrixDocument& document : MatrixDocuments(matrix, root)) … document.wanted …
#pragma once

#include <mayfly/internal/matrix.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cli/evidence.h"

namespace mayfly::cli {

// The page with every cell, and when and on what each was shown.
std::string MatrixPage(const internal::Matrix& matrix, const EvidenceOfCells& evidence);

// A README with the table of groups in it: between its markers, else in place of a line `<!-- matrix -->`, else in a
// section of its own at the end. Throws BadSpec when one marker is there without the other.
std::string ReadmeWithTable(std::string_view readme, const internal::Matrix& matrix);

struct MatrixDocument {
  std::filesystem::path file{};
  std::string found{};  // empty when it is not there
  std::string wanted{};
};
std::vector<MatrixDocument> MatrixDocuments(const internal::Matrix& matrix, const EvidenceOfCells& evidence,
                                            const std::filesystem::path& root);

}  // namespace mayfly::cli
