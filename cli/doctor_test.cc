#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/matrix.h>

#include <nlohmann/json.hpp>
#include <string>

#include "cli/doctor_checks.h"

namespace mayfly::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Doctor, CountsTheCellsOfEachBackendThatCanBeVerifiedHere) {
  Diagnosis diagnosis = Diagnose("");
  size_t rows = internal::LoadMatrix().rows.size();
  std::vector<std::string> drivers;
  for (const DriverCells& cells : diagnosis.cells) {
    drivers.push_back(cells.driver);
    EXPECT_EQ(cells.summary.cells, rows);
    EXPECT_LE(cells.summary.verifiable, rows);
    EXPECT_EQ(cells.summary.verifiable == rows, cells.summary.lacks.empty()) << "what is not verified has a reason";
  }
  EXPECT_THAT(drivers, ElementsAre("qemu", "ch", "vz"));
}

TEST(Doctor, TellsALineForEachBackendWithAFixForEachLack) {
  size_t lines = 0;
  for (const HostCheck& check : Diagnose("").checks) {
    if (check.name != "matrix") continue;
    ++lines;
    EXPECT_THAT(check.detail, HasSubstr("cells can be verified here"));
    EXPECT_EQ(check.result == HostCheck::Result::kWarn, !check.fix.empty());
  }
  EXPECT_EQ(lines, 3U);
}

TEST(Doctor, LooksAtOneBackendOnlyWhenAsked) {
  Diagnosis diagnosis = Diagnose("qemu");
  ASSERT_EQ(diagnosis.cells.size(), 1U);
  EXPECT_EQ(diagnosis.cells[0].driver, "qemu");
}

}  // namespace
}  // namespace mayfly::cli
