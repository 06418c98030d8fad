#include <mayfly/internal/host_view.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/host_needs.h>

#include <string>
#include <vector>

namespace mayfly::internal {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAreArray;

// Two rows and two drivers; "kvm" is told of by the probe, so this host does not matter.
Matrix Small() {
  Matrix matrix;
  matrix.drivers = {{.id = "qemu", .title = "QEMU"}, {.id = "ch", .title = "CH", .needs = {"kvm"}}};
  matrix.drivers[1].why = "its driver is not there yet";
  matrix.needs = {{"kvm", "KVM", "use another host"}};
  matrix.rows.resize(2);
  matrix.rows[0].id = "cpu.count";
  matrix.rows[0].cells = {{"qemu", {.status = CellStatus::kSupported}}, {"ch", {}}};
  matrix.rows[1].id = "cpu.hotplug";
  matrix.rows[1].cells = {{"qemu", {.status = CellStatus::kSupported, .needs = {"kvm"}}}, {"ch", {}}};
  return matrix;
}

ProbeReport Report(HostCheck::Result kvm) {
  ProbeReport report;
  report.usable = true;
  report.checks = {{"kvm", kvm, "no guest boots with it", "use the big one"}};
  for (Capability capability : AllCapabilities()) report.capabilities.push_back({capability, true, "there", ""});
  return report;
}

std::vector<std::string> Reasons(const std::vector<Lack>& lacks) {
  std::vector<std::string> reasons;
  for (const Lack& lack : lacks) reasons.push_back(lack.need + "|" + lack.reason + "|" + lack.fix);
  return reasons;
}

TEST(HostView, LacksNothingWhereTheProbeSaysThatItIsThere) {
  HostView view(Small(), {{"qemu", Report(HostCheck::Result::kPass)}});
  EXPECT_THAT(view.LacksOf("qemu", "cpu.hotplug"), IsEmpty());
  EXPECT_EQ(view.SummaryOf("qemu").verifiable, 2U);
}

TEST(HostView, TakesReasonAndFixFromTheProbesCheckOfThatName) {
  HostView view(Small(), {{"qemu", Report(HostCheck::Result::kWarn)}});
  EXPECT_THAT(Reasons(view.LacksOf("qemu", "cpu.hotplug")), ElementsAre("kvm|no guest boots with it|use the big one"));
  EXPECT_THAT(view.LacksOf("qemu", "cpu.count"), IsEmpty());
  HostView::Summary summary = view.SummaryOf("qemu");
  EXPECT_EQ(summary.cells, 2U);
  EXPECT_EQ(summary.verifiable, 1U);
  ASSERT_EQ(summary.lacks.size(), 1U);
  EXPECT_EQ(summary.lacks[0].second, 1U);
}

TEST(HostView, VerifiesNothingOfADriverThatIsNotBuilt) {
  HostView view(Small(), {{"qemu", Report(HostCheck::Result::kPass)}});
  EXPECT_THAT(Reasons(view.LacksOf("ch", "cpu.count")), ElementsAre("|its driver is not there yet|"));
  HostView::Summary summary = view.SummaryOf("ch");
  EXPECT_EQ(summary.verifiable, 0U);
  ASSERT_EQ(summary.lacks.size(), 1U) << "the same reason is told once";
  EXPECT_EQ(summary.lacks[0].second, 2U);
}

TEST(HostView, BelievesAProbeThatLacksWhatIsSupported) {
  ProbeReport report = Report(HostCheck::Result::kPass);
  report.capabilities[static_cast<size_t>(Capability::kCpuCount)] = {Capability::kCpuCount, false, "it is too old",
                                                                     "upgrade it"};
  HostView view(Small(), {{"qemu", report}});
  EXPECT_THAT(Reasons(view.LacksOf("qemu", "cpu.count")), ElementsAre("|it is too old|upgrade it"));
}

TEST(HostNeeds, AreThoseOfTheMatrix) {
  std::vector<std::string_view> in_matrix;
  Matrix matrix = LoadMatrix();
  for (const MatrixNeed& need : matrix.needs) in_matrix.push_back(need.id);
  EXPECT_THAT(KnownNeeds(), UnorderedElementsAreArray(in_matrix));
}

TEST(HostNeeds, GiveAReasonWhereTheHostLacksThem) {
  for (std::string_view need : KnownNeeds()) {
    auto reason = WhyHostLacks(need);
    EXPECT_TRUE(!reason || !reason->empty()) << need;
  }
  EXPECT_NE(WhyHostLacks("linux").has_value(), WhyHostLacks("macos").has_value());
}

TEST(HostView, WhatIsSimulatedShowsNothingUnlessItIsAskedToCount) {
  ProbeReport report = Report(HostCheck::Result::kPass);
  report.simulated = true;
  report.version = "simulated VMM 1";
  HostView view(Small(), {{"ch", report}});
  EXPECT_TRUE(view.IsSimulated("ch"));
  EXPECT_EQ(view.SummaryOf("ch").verifiable, 0U);
  EXPECT_THAT(Reasons(view.LacksOf("ch", "cpu.count")),
              ElementsAre("|simulated VMM 1: what works there shows nothing of the real one|"));
  HostView counting(Small(), {{"ch", report}}, Simulation::kCounts);
  EXPECT_THAT(counting.LacksOf("ch", "cpu.count"), IsEmpty());
}

}  // namespace
}  // namespace mayfly::internal
