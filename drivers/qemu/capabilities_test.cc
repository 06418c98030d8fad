// The driver's table and the matrix say the same.
#include "drivers/qemu/capabilities.h"

#include <gtest/gtest.h>
#include <mayfly/internal/matrix.h>

#include <string>

namespace mayfly::internal {
namespace {

Support SupportFor(CellStatus status) {
  if (IsRefused(status)) return Support::kNever;
  return status == CellStatus::kPlanned ? Support::kNotWired : Support::kYes;
}

TEST(QemuCapabilities, AreWhatTheMatrixSays) {
  Matrix matrix = LoadMatrix();
  for (Capability capability : AllCapabilities()) {
    const MatrixRow* row = matrix.Find(ToString(capability));
    ASSERT_NE(row, nullptr) << ToString(capability);
    CellStatus status = row->cells.at("qemu").status;
    EXPECT_EQ(QemuCapabilityOf(capability).support, SupportFor(status))
        << row->id << " is \"" << RowOf(status).name
        << "\" in matrix/capabilities.json; change it there or in drivers/qemu/capabilities.cc";
  }
}

}  // namespace
}  // namespace mayfly::internal
