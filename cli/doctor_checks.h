// What `mayfly doctor` finds out about this host.
#pragma once

#include <mayfly/driver.h>

#include <string>
#include <vector>

namespace mayfly::cli {

struct Diagnosis {
  bool usable = false;              // a VM can run
  std::string driver{};             // the one that is used by default
  std::vector<HostCheck> checks{};  // kFail: no VM can run; kWarn: something is missing or slower
};

// `driver`: look at this one only; empty: at all. Throws BadSpec when there is none of that name.
Diagnosis Diagnose(const std::string& driver);

}  // namespace mayfly::cli
