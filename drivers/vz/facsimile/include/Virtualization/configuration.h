// The configuration of a virtual machine.
#pragma once

#import <Foundation/Foundation.h>
#import <Virtualization/devices.h>

NS_ASSUME_NONNULL_BEGIN

API_AVAILABLE(macos(11.0)) @interface VZBootLoader : NSObject<NSCopying>
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0)) @interface VZLinuxBootLoader : VZBootLoader
- (instancetype)initWithKernelURL:(NSURL*)url NS_DESIGNATED_INITIALIZER;
@property(readwrite, copy) NSURL* kernelURL;
@property(readwrite, copy) NSString* commandLine;
@property(nullable, readwrite, copy) NSURL* initialRamdiskURL;
@end

API_AVAILABLE(macos(12.0)) @interface VZPlatformConfiguration : NSObject<NSCopying>
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(13.0)) @interface VZGenericMachineIdentifier : NSObject<NSCopying>
- (instancetype)init NS_DESIGNATED_INITIALIZER;
- (nullable instancetype)initWithDataRepresentation:(NSData*)data NS_DESIGNATED_INITIALIZER;
@property(readonly, copy) NSData* dataRepresentation;
@end

API_AVAILABLE(macos(12.0)) @interface VZGenericPlatformConfiguration : VZPlatformConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@property(readwrite, copy) VZGenericMachineIdentifier* machineIdentifier API_AVAILABLE(macos(13.0));
@property(class, readonly, getter=isNestedVirtualizationSupported)
    BOOL nestedVirtualizationSupported API_AVAILABLE(macos(15.0));
@property(readwrite, getter=isNestedVirtualizationEnabled) BOOL nestedVirtualizationEnabled API_AVAILABLE(macos(15.0));
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtualMachineConfiguration : NSObject<NSCopying>
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@property(nullable, readwrite, copy) VZBootLoader* bootLoader;
@property(readwrite) uint64_t memorySize;
@property(readwrite) NSUInteger CPUCount;
@property(readwrite, copy) VZPlatformConfiguration* platform API_AVAILABLE(macos(12.0));
@property(readwrite, copy) NSArray<VZConsoleDeviceConfiguration*>* consoleDevices API_AVAILABLE(macos(13.0));
@property(readwrite, copy)
    NSArray<VZDirectorySharingDeviceConfiguration*>* directorySharingDevices API_AVAILABLE(macos(12.0));
@property(readwrite, copy) NSArray<VZEntropyDeviceConfiguration*>* entropyDevices;
@property(readwrite, copy) NSArray<VZMemoryBalloonDeviceConfiguration*>* memoryBalloonDevices;
@property(readwrite, copy) NSArray<VZNetworkDeviceConfiguration*>* networkDevices;
@property(readwrite, copy) NSArray<VZSerialPortConfiguration*>* serialPorts;
@property(readwrite, copy) NSArray<VZStorageDeviceConfiguration*>* storageDevices;
- (BOOL)validateWithError:(NSError**)error;
@property(class, readonly) uint64_t minimumAllowedMemorySize;
@property(class, readonly) uint64_t maximumAllowedMemorySize;
@property(class, readonly) NSUInteger minimumAllowedCPUCount;
@property(class, readonly) NSUInteger maximumAllowedCPUCount;
@end

NS_ASSUME_NONNULL_END
