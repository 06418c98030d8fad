// What this host has of what the matrix's cells may need.
//
//   if (auto reason = WhyHostLacks("hugepages")) … "no huge page of 2048 kB is free (0 of 0)" …
//
// A row of a table for each need of matrix/capabilities.json (a test holds the two together). Looking costs no more
// than opening a device or reading a small file, and changes nothing. It is a first look: where a driver knows better
// (whether guests really boot with KVM), its probe's check of the same name counts, see host_view.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

// Nothing when the host has it, or when there is no such need.
std::optional<std::string> WhyHostLacks(std::string_view need);

std::vector<std::string_view> KnownNeeds();

}  // namespace mayfly::internal
