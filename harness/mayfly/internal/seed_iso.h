// Writes a cloud-init NoCloud seed: an ISO9660 image labelled CIDATA with user-data, meta-data and network-config.
//
//   WriteSeedIso(spec.seed.value(), spec.name, sandbox.Path("seed.iso"));
//
// Names of files are kept by Rock Ridge and Joliet. Thread-safe.
#pragma once

#include <mayfly/spec.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace mayfly::internal {

// `name` is the VM's: instance-id and local-hostname where the seed gives no meta-data. Throws HostLacks when the file
// cannot be written.
void WriteSeedIso(const Seed& seed, std::string_view name, const std::filesystem::path& path);

// The meta-data of a seed that gives none.
std::string DefaultMetaData(std::string_view name);

}  // namespace mayfly::internal
