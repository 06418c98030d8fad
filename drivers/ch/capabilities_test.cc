// The driver's table and the matrix say the same of what can never be, and rows are in their order.
#include "drivers/ch/capabilities.h"

#include <gtest/gtest.h>
#include <mayfly/internal/matrix.h>

#include <string>

namespace mayfly::ch {
namespace {

TEST(ChCapabilities, AreWhatTheMatrixSays) {
  internal::Matrix matrix = internal::LoadMatrix();
  for (Capability capability : AllCapabilities()) {
    const internal::MatrixRow* row = matrix.Find(ToString(capability));
    ASSERT_NE(row, nullptr) << ToString(capability);
    const internal::DriverCapability& ours = RowOf(capability);
    EXPECT_EQ(ours.capability, capability);
    internal::CellStatus status = row->cells.at("ch").status;
    EXPECT_EQ(ours.support == internal::Support::kNever, internal::IsRefused(status)) << row->id;
    EXPECT_TRUE(status != internal::CellStatus::kSupported || ours.support == internal::Support::kYes) << row->id;
  }
}

}  // namespace
}  // namespace mayfly::ch
