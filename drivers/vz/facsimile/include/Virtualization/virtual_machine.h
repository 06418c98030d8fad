// A virtual machine. All of it is used on its queue, and calls back there.
#pragma once

#import <Foundation/Foundation.h>
#import <Virtualization/configuration.h>

NS_ASSUME_NONNULL_BEGIN

typedef NS_ENUM(NSInteger, VZVirtualMachineState) {
  VZVirtualMachineStateStopped = 0,
  VZVirtualMachineStateRunning = 1,
  VZVirtualMachineStatePaused = 2,
  VZVirtualMachineStateError = 3,
  VZVirtualMachineStateStarting = 4,
  VZVirtualMachineStatePausing = 5,
  VZVirtualMachineStateResuming = 6,
  VZVirtualMachineStateStopping API_AVAILABLE(macos(12.0)) = 7,
  VZVirtualMachineStateSaving API_AVAILABLE(macos(14.0)) = 8,
  VZVirtualMachineStateRestoring API_AVAILABLE(macos(14.0)) = 9,
};

@class VZVirtualMachine;

API_AVAILABLE(macos(11.0)) @protocol VZVirtualMachineDelegate<NSObject>
@optional
- (void)guestDidStopVirtualMachine:(VZVirtualMachine*)machine;
- (void)virtualMachine:(VZVirtualMachine*)machine didStopWithError:(NSError*)error;
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtualMachine : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
- (instancetype)initWithConfiguration:(VZVirtualMachineConfiguration*)configuration
                                queue:(dispatch_queue_t)queue NS_DESIGNATED_INITIALIZER;
@property(class, readonly, getter=isSupported) BOOL supported;
@property(readonly) VZVirtualMachineState state;
@property(nullable, weak) id<VZVirtualMachineDelegate> delegate;
@property(readonly) BOOL canStart;
@property(readonly) BOOL canStop API_AVAILABLE(macos(12.0));
@property(readonly) BOOL canPause;
@property(readonly) BOOL canResume;
@property(readonly) BOOL canRequestStop;
@property(readonly) NSArray<VZMemoryBalloonDevice*>* memoryBalloonDevices;
- (void)startWithCompletionHandler:(void (^)(NSError* _Nullable errorOrNil))handler;
- (void)stopWithCompletionHandler:(void (^)(NSError* _Nullable errorOrNil))handler API_AVAILABLE(macos(12.0));
- (void)pauseWithCompletionHandler:(void (^)(NSError* _Nullable errorOrNil))handler;
- (void)resumeWithCompletionHandler:(void (^)(NSError* _Nullable errorOrNil))handler;
- (BOOL)requestStopWithError:(NSError**)error;
@end

NS_ASSUME_NONNULL_END
