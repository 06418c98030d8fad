#include <mayfly/internal/guest_identity.h>

#include <fmt/format.h>

#include <random>

namespace mayfly::internal {

std::string RandomDigits(size_t count) {
  std::random_device random;
  std::string digits;
  while (digits.size() < count) digits += fmt::format("{:08x}", random());
  digits.resize(count);
  return digits;
}

GuestIdentity IdentityOfCopy(const SnapshotInfo& info, const MachineSpec& copy) {
  constexpr size_t kMachineIdDigits = 32;
  GuestIdentity identity{.hostname = copy.name, .machine_id = RandomDigits(kMachineIdDigits)};
  for (size_t i = 0; i < info.spec.nics.size(); ++i) {
    const std::string &from = info.spec.nics[i].mac, &to = copy.nics.at(i).mac;
    if (from != to) identity.macs.emplace_back(from, to);
  }
  return identity;
}

}  // namespace mayfly::internal
