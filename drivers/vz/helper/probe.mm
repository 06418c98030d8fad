#include "drivers/vz/helper/probe.h"

#import <Virtualization/Virtualization.h>

#include <string>

#include "drivers/vz/helper/framework_error.h"
#include "drivers/vz/protocol.h"
#ifdef MAYFLY_VZ_SIMULATED
#include "drivers/vz/facsimile/virtualization/simulated_host.h"
#endif

namespace mayfly::vz {

nlohmann::json Probe() {
  NSOperatingSystemVersion version = [NSProcessInfo processInfo].operatingSystemVersion;
  nlohmann::json found = {
      {"protocol", kProtocolVersion},
      {"simulated", false},
      {"macos", std::to_string(version.majorVersion) + "." + std::to_string(version.minorVersion)},
      {"supported", static_cast<bool>(VZVirtualMachine.supported)},
      {"minimum_cpus", VZVirtualMachineConfiguration.minimumAllowedCPUCount},
      {"maximum_cpus", VZVirtualMachineConfiguration.maximumAllowedCPUCount},
      {"minimum_memory", VZVirtualMachineConfiguration.minimumAllowedMemorySize},
      {"maximum_memory", VZVirtualMachineConfiguration.maximumAllowedMemorySize},
  };
  // Without the entitlement no configuration is valid, and the words say so.
  NSError* error = nil;
  VZVirtualMachineConfiguration* empty = [[VZVirtualMachineConfiguration alloc] init];
  [empty validateWithError:&error];
  std::string text =
      error == nil ? "" : TextOf(error.localizedDescription) + " " + TextOf(error.localizedFailureReason);
  found["entitled"] = text.find("entitlement") == std::string::npos;
#ifdef MAYFLY_VZ_SIMULATED
  found["simulated"] = true;
  found["guests_by"] = facsimile::GuestVmm();
#endif
  return found;
}

}  // namespace mayfly::vz
