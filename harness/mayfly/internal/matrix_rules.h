// What a capability matrix must hold to besides its JSON schema.
#pragma once

#include <mayfly/internal/matrix.h>

#include <string>
#include <vector>

namespace mayfly::internal {

// All faults, each as "row: field: fault": ids that are there twice or unknown, rows out of their group, cells that are
// missing or say too little for their status, calls of a backend that stand in no cell.
std::vector<std::string> MatrixRuleFaults(const Matrix& matrix);

}  // namespace mayfly::internal
