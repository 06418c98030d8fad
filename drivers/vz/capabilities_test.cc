// The driver's table and the matrix say the same of what can never be, and rows are in their order.
#include "drivers/vz/capabilities.h"

#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/matrix.h>

namespace mayfly::vz {
namespace {

TEST(VzCapabilities, AreWhatTheMatrixSays) {
  internal::Matrix matrix = internal::LoadMatrix();
  for (Capability capability : AllCapabilities()) {
    const internal::MatrixRow* row = matrix.Find(ToString(capability));
    ASSERT_NE(row, nullptr) << ToString(capability);
    const internal::DriverCapability& ours = RowOf(capability);
    EXPECT_EQ(ours.capability, capability);
    internal::CellStatus status = row->cells.at("vz").status;
    EXPECT_EQ(ours.support == internal::Support::kNever, internal::IsRefused(status)) << row->id;
    EXPECT_TRUE(status != internal::CellStatus::kSupported || ours.support == internal::Support::kYes) << row->id;
  }
}

TEST(VzCapabilities, WhatMacsCannotHaveIsRefusedByItsName) {
  try {
    RefuseWhatIsNotOffered({.cpus = 1, .max_cpus = 2});
    FAIL() << "it was not refused";
  } catch (const Unsupported& error) {
    EXPECT_EQ(error.capability(), Capability::kCpuHotplug);
    EXPECT_EQ(error.reason(), "CPUCount is fixed in VZVirtualMachineConfiguration");
  }
}

}  // namespace
}  // namespace mayfly::vz
