// The version of the Mac that is played.
#import <Foundation/Foundation.h>

#include "drivers/vz/facsimile/virtualization/simulated_host.h"

@implementation NSProcessInfo
+ (NSProcessInfo*)processInfo {
  return [[NSProcessInfo alloc] init];
}
- (NSOperatingSystemVersion)operatingSystemVersion {
  const mayfly::facsimile::SimulatedHost& host = mayfly::facsimile::Host();
  return {.majorVersion = host.macos_major, .minorVersion = host.macos_minor, .patchVersion = 0};
}
@end
