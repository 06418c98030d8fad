// What the files of the facsimile's Virtualization have for each other.
#pragma once

#import <Virtualization/Virtualization.h>

#include <optional>

#include "drivers/vz/facsimile/virtualization/guest_hardware.h"

NS_ASSUME_NONNULL_BEGIN

namespace mayfly::facsimile {

// An error as the framework's are: what failed in NSLocalizedFailure, why in NSLocalizedFailureReason.
NSError* MakeError(VZErrorCode code, NSString* failure, NSString* reason, NSError* _Nullable underlying = nil);
NSError* ConfigurationError(NSString* reason, NSError* _Nullable underlying = nil);
NSError* InternalError(NSString* reason, NSError* _Nullable underlying = nil);
NSError* PosixError(int number);
// For methods with an error parameter.
BOOL Fail(NSError* _Nullable __autoreleasing* _Nullable place, NSError* error);

// Raises NSInvalidArgumentException where the framework takes no nil.
void RequireObject(id _Nullable object, NSString* what);

// The guest that a valid configuration describes; later changes of the configuration do not change it.
GuestHardware HardwareOf(VZVirtualMachineConfiguration* configuration);

GuestChannel ChannelOf(VZSerialPortAttachment* _Nullable attachment);

}  // namespace mayfly::facsimile

@interface VZVirtioConsolePortConfigurationArray ()
- (uint32_t)mayflyCount;
@end

@interface VZVirtioTraditionalMemoryBalloonDevice ()
// `resize` is called with each new target.
- (instancetype)mayflyInitWithMemory:(uint64_t)memory
                               queue:(dispatch_queue_t)queue
                              resize:(void (^)(uint64_t target))resize __attribute__((objc_method_family(init)));
@end

NS_ASSUME_NONNULL_END
