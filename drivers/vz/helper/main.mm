// mayfly-vz: runs one virtual machine of Apple's Virtualization.framework for mayfly's driver `vz`.
//
// A process of its own, so that it alone needs the entitlement com.apple.security.virtualization, and so that a trap in
// the framework does not take a test along. Not for people: protocol.h tells what it says.
#include <mayfly/errors.h>

#include <cstdio>
#include <string_view>

#include "drivers/vz/helper/probe.h"
#include "drivers/vz/helper/session.h"
#include "drivers/vz/protocol.h"

int main(int argc, char** argv) {
  std::string_view mode = argc == 2 ? argv[1] : "";
  try {
    if (mode == "probe") {
      @autoreleasepool {
        std::puts(mayfly::vz::Probe().dump().c_str());
      }
      return 0;
    }
    if (mode == "serve") {
      mayfly::vz::Session(mayfly::internal::UniqueFd(mayfly::vz::kControlDescriptor)).Run();
      return 0;
    }
  } catch (const mayfly::Error& error) {
    std::fprintf(stderr, "mayfly-vz: %s\n", error.what());
    return 1;
  }
  std::fputs("mayfly-vz: started by mayfly's driver vz, as `mayfly-vz probe` or `mayfly-vz serve`\n", stderr);
  return 2;
}
