#include <mayfly/internal/driver_capabilities.h>

#include <mayfly/errors.h>

#include <string>

namespace mayfly::internal {

void RefuseWhatIsNotOffered(std::span<const DriverCapability> rows, std::string_view driver, const MachineSpec& spec) {
  for (const DriverCapability& row : rows) {
    if (row.support != Support::kYes && row.asked != nullptr && row.asked(spec)) {
      throw Unsupported(row.capability, std::string(driver), std::string(row.reason));
    }
  }
}

}  // namespace mayfly::internal
