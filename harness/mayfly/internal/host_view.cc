#include <mayfly/internal/host_view.h>

#include <fmt/format.h>
#include <mayfly/internal/host_needs.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

namespace mayfly::internal {
namespace {

// What the drivers' probes say about a need: nothing when none has a check of that name.
std::optional<HostCheck> CheckNamed(const ProbeReports& reports, std::string_view need) {
  for (const auto& [driver, report] : reports) {
    for (const HostCheck& check : report.checks) {
      if (check.name == need) return check;
    }
  }
  return std::nullopt;
}

const CapabilityReport* Find(const ProbeReport& report, std::string_view capability) {
  auto found = std::find_if(report.capabilities.begin(), report.capabilities.end(),
                            [&](const CapabilityReport& row) { return ToString(row.capability) == capability; });
  return found == report.capabilities.end() ? nullptr : &*found;
}

}  // namespace

ProbeReports ProbeAll() {
  ProbeReports reports;
  for (Driver* driver : AllDrivers()) reports.emplace(driver->Name(), driver->Probe());
  return reports;
}

HostView::HostView(Matrix matrix, ProbeReports reports, Simulation simulation)
    : matrix_(std::move(matrix)), reports_(std::move(reports)), simulation_(simulation) {
  for (const MatrixNeed& need : matrix_.needs) {
    if (std::optional<HostCheck> check = CheckNamed(reports_, need.id)) {
      if (check->result == HostCheck::Result::kPass) continue;
      lacking_[need.id] = {need.id, check->detail, check->fix.empty() ? need.fix : check->fix};
    } else if (std::optional<std::string> reason = WhyHostLacks(need.id)) {
      lacking_[need.id] = {need.id, *reason, need.fix};
    }
  }
}

std::vector<Lack> HostView::LacksOf(std::string_view driver, std::string_view capability) const {
  const MatrixDriver* owner = matrix_.FindDriver(driver);
  const MatrixRow* row = matrix_.Find(capability);
  if (owner == nullptr || row == nullptr) return {};
  auto report = reports_.find(driver);
  if (report == reports_.end()) {
    return {{"", owner->why.empty() ? "its driver is not in this build (MAYFLY_DRIVERS)" : owner->why, ""}};
  }
  const MatrixCell& cell = row->cells.at(owner->id);
  std::vector<Lack> lacks;
  for (const std::vector<std::string>* needs : {&owner->needs, &cell.needs}) {
    for (const std::string& need : *needs) {
      if (std::optional<Lack> lack = LackOf(need)) lacks.push_back(std::move(*lack));
    }
  }
  if (lacks.empty() && report->second.simulated && simulation_ == Simulation::kShowsNothing) {
    return {{"", report->second.version + ": what works there shows nothing of the real one", ""}};
  }
  const CapabilityReport* told = Find(report->second, capability);
  bool missing = cell.status == CellStatus::kSupported && told != nullptr && !told->available;
  if (lacks.empty() && missing) lacks.push_back({"", told->reason, told->fix});
  return lacks;
}

bool HostView::IsSimulated(std::string_view driver) const {
  auto report = reports_.find(driver);
  return report != reports_.end() && report->second.simulated;
}

const CapabilityReport* HostView::ReportOf(std::string_view driver, std::string_view capability) const {
  auto report = reports_.find(driver);
  return report == reports_.end() ? nullptr : Find(report->second, capability);
}

std::optional<Lack> HostView::LackOf(std::string_view need) const {
  auto found = lacking_.find(need);
  return found == lacking_.end() ? std::nullopt : std::optional(found->second);
}

HostView::Summary HostView::SummaryOf(std::string_view driver) const {
  Summary summary;
  for (const MatrixRow& row : matrix_.rows) {
    ++summary.cells;
    std::vector<Lack> lacks = LacksOf(driver, row.id);
    if (lacks.empty()) ++summary.verifiable;
    for (Lack& lack : lacks) {
      auto known = std::find_if(summary.lacks.begin(), summary.lacks.end(),
                                [&](const auto& each) { return each.first == lack; });
      if (known == summary.lacks.end()) known = summary.lacks.insert(known, {std::move(lack), 0});
      ++known->second;
    }
  }
  std::sort(summary.lacks.begin(), summary.lacks.end(), [](const auto& a, const auto& b) {
    return std::tie(b.second, a.first.need, a.first.reason) < std::tie(a.second, b.first.need, b.first.reason);
  });
  return summary;
}

}  // namespace mayfly::internal
