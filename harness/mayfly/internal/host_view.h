// The capability matrix through this host's eyes: which cells can be verified here, and what the others lack.
//
//   HostView view(LoadMatrix(), ProbeAll());
//   for (const Lack& lack : view.LacksOf("qemu", "memory.hugepages")) … lack.reason … lack.fix …
//
// A cell can be verified when its driver is linked in and usable, and when the host has all that driver and cell need.
// What a driver's probe says counts: a check whose name is that of a need ("kvm") tells of that need.
#pragma once

#include <mayfly/driver.h>
#include <mayfly/internal/matrix.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// Why a cell cannot be verified here.
struct Lack {
  std::string need{};  // empty: not a need of the matrix (no such driver in this build, a reason of the probe)
  std::string reason{};
  std::string fix{};  // empty: nothing helps here
  friend bool operator==(const Lack&, const Lack&) = default;
};

using ProbeReports = std::map<std::string, ProbeReport, std::less<>>;  // by driver
ProbeReports ProbeAll();

// Whether a cell can be verified with a VMM that is simulated.
enum class Simulation { kShowsNothing, kCounts };

class HostView {
 public:
  HostView(Matrix matrix, ProbeReports reports, Simulation simulation = Simulation::kShowsNothing);

  const Matrix& matrix() const { return matrix_; }

  // Empty: it can be verified. A driver or capability that the matrix does not have lacks nothing.
  std::vector<Lack> LacksOf(std::string_view driver, std::string_view capability) const;

  // Whether a driver's probe says that its VMM is simulated.
  bool IsSimulated(std::string_view driver) const;
  // What a driver's probe says of a capability, or nothing.
  const CapabilityReport* ReportOf(std::string_view driver, std::string_view capability) const;

  // Nothing when the host has it.
  std::optional<Lack> LackOf(std::string_view need) const;

  // How a driver's cells fare, with each lack once, those of most cells first.
  struct Summary {
    size_t cells = 0;
    size_t verifiable = 0;
    std::vector<std::pair<Lack, size_t>> lacks{};  // with the number of cells
  };
  Summary SummaryOf(std::string_view driver) const;

 private:
  Matrix matrix_;
  ProbeReports reports_;
  Simulation simulation_;
  std::map<std::string, Lack, std::less<>> lacking_;  // needs that the host has not
};

}  // namespace mayfly::internal
