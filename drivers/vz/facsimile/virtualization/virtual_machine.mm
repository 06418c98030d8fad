// A virtual machine of the facsimile: its states, and the QEMU guest behind it.
#include <mayfly/errors.h>
#include <mayfly/internal/unique_fd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>

#include "drivers/vz/facsimile/virtualization/guest_process.h"
#import "drivers/vz/facsimile/virtualization/internal.h"
#include "drivers/vz/facsimile/virtualization/simulated_host.h"

using mayfly::facsimile::GuestEnd;
using mayfly::facsimile::GuestHardware;
using mayfly::facsimile::GuestProcess;
using mayfly::facsimile::InternalError;
using mayfly::facsimile::MakeError;
using mayfly::facsimile::PosixError;
using mayfly::internal::UniqueFd;

namespace {

using Completion = void (^)(NSError*);

NSString* NameOf(VZVirtualMachineState state) {
  switch (state) {
    case VZVirtualMachineStateStopped:
      return @"stopped";
    case VZVirtualMachineStateRunning:
      return @"running";
    case VZVirtualMachineStatePaused:
      return @"paused";
    case VZVirtualMachineStateError:
      return @"error";
    case VZVirtualMachineStateStarting:
      return @"starting";
    case VZVirtualMachineStatePausing:
      return @"pausing";
    case VZVirtualMachineStateResuming:
      return @"resuming";
    case VZVirtualMachineStateStopping:
      return @"stopping";
    case VZVirtualMachineStateSaving:
      return @"saving";
    case VZVirtualMachineStateRestoring:
      return @"restoring";
  }
  return @"unknown";
}

// A machine identifier is for one running machine of the host: a name that only one process can have, and that goes
// with it.
UniqueFd ClaimIdentifier(NSData* identifier) {
  std::string name = "mayfly-vz-simulated-machine-";
  const auto* bytes = static_cast<const unsigned char*>(identifier.bytes);
  for (NSUInteger i = 0; i < identifier.length; ++i) {
    constexpr const char* kDigits = "0123456789abcdef";
    name += kDigits[bytes[i] >> 4];
    name += kDigits[bytes[i] & 0xf];
  }
  UniqueFd claim(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: no file
  auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) claim.Reset();  // NOLINT
  return claim;
}

}  // namespace

@implementation VZVirtualMachine {
  dispatch_queue_t _queue;
  VZVirtualMachineConfiguration* _configuration;  // keeps the attachments
  GuestHardware _hardware;
  NSData* _identifier;
  NSArray<VZMemoryBalloonDevice*>* _balloons;
  VZVirtualMachineState _state;
  UniqueFd _claim;
  std::unique_ptr<GuestProcess> _guest;
  uint64_t _run;         // tells the guest of an earlier start from this one's
  Completion _stopping;  // of a stop under way
}

+ (BOOL)isSupported {
  return mayfly::facsimile::Host().hardware;
}

- (instancetype)initWithConfiguration:(VZVirtualMachineConfiguration*)configuration queue:(dispatch_queue_t)queue {
  if ((self = [super init]) == nil) return nil;
  NSError* fault = nil;
  if (![configuration validateWithError:&fault]) {
    [NSException raise:NSInvalidArgumentException format:@"%@", fault.localizedDescription];
  }
  _queue = queue;
  _configuration = [configuration copy];
  _hardware = mayfly::facsimile::HardwareOf(_configuration);
  _identifier =
      static_cast<VZGenericPlatformConfiguration*>(_configuration.platform).machineIdentifier.dataRepresentation;
  _balloons = @[];
  if (_hardware.balloon) {
    __weak VZVirtualMachine* weak = self;
    _balloons = @[ [[VZVirtioTraditionalMemoryBalloonDevice alloc] mayflyInitWithMemory:_hardware.memory
                                                                                  queue:queue
                                                                                 resize:^(uint64_t target) {
                                                                                   [weak mayflyResize:target];
                                                                                 }] ];
  }
  return self;
}

- (VZVirtualMachineState)state {
  dispatch_assert_queue(_queue);
  return _state;
}
- (NSArray<VZMemoryBalloonDevice*>*)memoryBalloonDevices {
  dispatch_assert_queue(_queue);
  return _balloons;
}
- (BOOL)canStart {
  return self.state == VZVirtualMachineStateStopped || self.state == VZVirtualMachineStateError;
}
- (BOOL)canStop {
  return self.state == VZVirtualMachineStateRunning || self.state == VZVirtualMachineStatePaused;
}
- (BOOL)canPause {
  return self.state == VZVirtualMachineStateRunning;
}
- (BOOL)canResume {
  return self.state == VZVirtualMachineStatePaused;
}
- (BOOL)canRequestStop {
  return self.state == VZVirtualMachineStateRunning;
}

// --- Operations ---------------------------------------------------------------------------------------------------
- (void)startWithCompletionHandler:(Completion)handler {
  if (!self.canStart) return [self mayflyRefuse:VZVirtualMachineStateStarting handler:handler];
  _state = VZVirtualMachineStateStarting;
  NSError* cause = nil;
  if (![self mayflyLaunch:handler error:&cause]) {
    _state = VZVirtualMachineStateStopped;
    [self mayflyAnswer:handler error:InternalError(@"The virtual machine failed to start.", cause)];
  }
}

- (void)stopWithCompletionHandler:(Completion)handler {
  if (!self.canStop) return [self mayflyRefuse:VZVirtualMachineStateStopping handler:handler];
  _state = VZVirtualMachineStateStopping;
  _stopping = handler;
  _guest->Kill();
}

- (void)pauseWithCompletionHandler:(Completion)handler {
  if (!self.canPause) return [self mayflyRefuse:VZVirtualMachineStatePausing handler:handler];
  _state = VZVirtualMachineStatePausing;
  [self mayflyExecute:"stop" to:VZVirtualMachineStatePaused handler:handler];
}

- (void)resumeWithCompletionHandler:(Completion)handler {
  if (!self.canResume) return [self mayflyRefuse:VZVirtualMachineStateResuming handler:handler];
  _state = VZVirtualMachineStateResuming;
  [self mayflyExecute:"cont" to:VZVirtualMachineStateRunning handler:handler];
}

- (BOOL)requestStopWithError:(NSError**)error {
  if (!self.canRequestStop) {
    return mayfly::facsimile::Fail(error,
                                   MakeError(VZErrorInvalidVirtualMachineState, @"Invalid virtual machine state.",
                                             @"The virtual machine is not running."));
  }
  _guest->Execute("system_powerdown", {}, [](const std::string&) {});
  return YES;
}

// --- The guest ----------------------------------------------------------------------------------------------------
- (BOOL)mayflyLaunch:(Completion)handler error:(NSError**)error {
  _claim = ClaimIdentifier(_identifier);
  if (!_claim) return mayfly::facsimile::Fail(error, PosixError(EBUSY));
  __weak VZVirtualMachine* weak = self;
  dispatch_queue_t queue = _queue;
  uint64_t run = ++_run;
  try {
    _guest = std::make_unique<GuestProcess>(_hardware, [weak, queue, run](GuestEnd end) {
      @autoreleasepool {
        dispatch_async(queue, ^{
          [weak mayflyEnded:end run:run];
        });
      }
    });
  } catch (const mayfly::Error& trouble) {
    NSString* text = [NSString stringWithUTF8String:trouble.what()];
    _claim.Reset();
    return mayfly::facsimile::Fail(error, [NSError errorWithDomain:NSPOSIXErrorDomain
                                                              code:ENOENT
                                                          userInfo:@{NSLocalizedDescriptionKey : text}]);
  }
  [self mayflyExecute:"query-status" to:VZVirtualMachineStateRunning handler:handler];
  return YES;
}

// Does it in the guest and is in `state` then. A guest that has ended by then is told of by mayflyEnded.
- (void)mayflyExecute:(const char*)command to:(VZVirtualMachineState)state handler:(Completion)handler {
  __weak VZVirtualMachine* weak = self;
  dispatch_queue_t queue = _queue;
  bool starting = _state == VZVirtualMachineStateStarting;
  _guest->Execute(command, {}, [weak, queue, state, starting, handler](const std::string& error) {
    @autoreleasepool {
      bool done = error.empty();
      dispatch_async(queue, ^{
        if (VZVirtualMachine* machine = weak; machine != nil && done) machine->_state = state;
        if (done) return handler(nil);
        handler(InternalError(starting ? @"The virtual machine failed to start."
                                       : @"The virtual machine stopped unexpectedly."));
      });
    }
  });
}

- (void)mayflyEnded:(GuestEnd)end run:(uint64_t)run {
  if (run != _run || _guest == nullptr) return;
  VZVirtualMachineState before = _state;
  _guest.reset();
  _claim.Reset();
  Completion stopping = _stopping;
  _stopping = nil;
  _state = VZVirtualMachineStateStopped;
  id<VZVirtualMachineDelegate> delegate = self.delegate;
  if (stopping != nil) return stopping(nil);
  if (before == VZVirtualMachineStateStarting) return;  // its handler was told
  if (end == GuestEnd::kPoweredOff) {
    if ([delegate respondsToSelector:@selector(guestDidStopVirtualMachine:)]) {
      [delegate guestDidStopVirtualMachine:self];
    }
    return;
  }
  _state = VZVirtualMachineStateError;
  if ([delegate respondsToSelector:@selector(virtualMachine:didStopWithError:)]) {
    [delegate virtualMachine:self didStopWithError:InternalError(@"The virtual machine stopped unexpectedly.")];
  }
}

- (void)mayflyResize:(uint64_t)target {
  if (_guest != nullptr) _guest->Execute("balloon", {{"value", target}}, [](const std::string&) {});
}

- (void)mayflyAnswer:(Completion)handler error:(NSError*)error {
  dispatch_async(_queue, ^{
    handler(error);
  });
}

- (void)mayflyRefuse:(VZVirtualMachineState)to handler:(Completion)handler {
  NSString* reason =
      [NSString stringWithFormat:@"Transition from state “%@” to state “%@” is invalid.", NameOf(_state), NameOf(to)];
  [self mayflyAnswer:handler
               error:MakeError(VZErrorInvalidVirtualMachineStateTransition,
                               @"Invalid virtual machine state transition.", reason)];
}

@end
