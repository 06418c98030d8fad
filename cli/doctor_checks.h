// What `mayfly doctor` finds out about this host.
#pragma once

#include <mayfly/driver.h>
#include <mayfly/internal/host_view.h>

#include <string>
#include <vector>

namespace mayfly::cli {

// The capability matrix with one driver: what of it can be verified here.
struct DriverCells {
  std::string driver{};
  internal::HostView::Summary summary{};
};

struct Diagnosis {
  bool usable = false;              // a VM can run
  std::string driver{};             // the one that is used by default
  std::vector<HostCheck> checks{};  // kFail: no VM can run; kWarn: something is missing or slower
  std::vector<DriverCells> cells{};
};

// `driver`: look at this one only; empty: at all. Throws BadSpec when there is none of that name.
Diagnosis Diagnose(const std::string& driver);

// "Debian GNU/Linux 12 (bookworm)".
std::string SystemName();

}  // namespace mayfly::cli
