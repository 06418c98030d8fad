#import "drivers/vz/facsimile/virtualization/internal.h"

#include <system_error>

NSErrorDomain const VZErrorDomain = @"VZErrorDomain";

namespace mayfly::facsimile {

NSError* MakeError(VZErrorCode code, NSString* failure, NSString* reason, NSError* underlying) {
  NSDictionary* information = @{NSLocalizedFailureErrorKey : failure, NSLocalizedFailureReasonErrorKey : reason};
  if (underlying != nil) {
    information = @{
      NSLocalizedFailureErrorKey : failure,
      NSLocalizedFailureReasonErrorKey : reason,
      NSUnderlyingErrorKey : underlying
    };
  }
  return [NSError errorWithDomain:VZErrorDomain code:code userInfo:information];
}

NSError* ConfigurationError(NSString* reason, NSError* underlying) {
  return MakeError(VZErrorInvalidVirtualMachineConfiguration, @"Invalid virtual machine configuration.", reason,
                   underlying);
}

NSError* InternalError(NSString* reason, NSError* underlying) {
  return MakeError(VZErrorInternal, @"Internal Virtualization error.", reason, underlying);
}

NSError* PosixError(int number) {
  NSString* text = [NSString stringWithUTF8String:std::generic_category().message(number).c_str()];
  return [NSError errorWithDomain:NSPOSIXErrorDomain code:number userInfo:@{NSLocalizedDescriptionKey : text}];
}

BOOL Fail(NSError** place, NSError* error) {
  if (place != nullptr) *place = error;
  return NO;
}

void RequireObject(id object, NSString* what) {
  if (object == nil) [NSException raise:NSInvalidArgumentException format:@"%@ must not be nil", what];
}

}  // namespace mayfly::facsimile
