// The conformance suite in an emulated host (emulated_host.h), for cells that this machine cannot show: those that need
// KVM, vhost or an IOMMU.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mayfly::cli {

// Runs this program there with these words, such as {"conformance", "run", "--report", "/results"}, in this directory;
// what it says comes here as it says it. It may write to `report` only. Ctrl-C stops the run there, whose report is
// then a part. Returns its exit code; kUsage when it could not be run. Throws what booting the host throws.
int RunConformanceInEmulatedHost(const std::vector<std::string>& words, const std::filesystem::path& report);

}  // namespace mayfly::cli
