// Configurations of devices, and what is behind them.
#pragma once

#import <Foundation/Foundation.h>

NS_ASSUME_NONNULL_BEGIN

// --- Serial ports and consoles ------------------------------------------------------------------------------------
API_AVAILABLE(macos(11.0)) @interface VZSerialPortAttachment : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0)) @interface VZFileHandleSerialPortAttachment : VZSerialPortAttachment
- (instancetype)initWithFileHandleForReading:(nullable NSFileHandle*)reading
                        fileHandleForWriting:(nullable NSFileHandle*)writing NS_DESIGNATED_INITIALIZER;
@property(nullable, readonly) NSFileHandle* fileHandleForReading;
@property(nullable, readonly) NSFileHandle* fileHandleForWriting;
@end

API_AVAILABLE(macos(11.0)) @interface VZFileSerialPortAttachment : VZSerialPortAttachment
- (nullable instancetype)initWithURL:(NSURL*)url append:(BOOL)append error:(NSError**)error NS_DESIGNATED_INITIALIZER;
@property(readonly) NSURL* URL;
@property(readonly) BOOL append;
@end

API_AVAILABLE(macos(11.0)) @interface VZSerialPortConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@property(nullable, readwrite, strong) VZSerialPortAttachment* attachment;
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtioConsoleDeviceSerialPortConfiguration : VZSerialPortConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

API_AVAILABLE(macos(13.0)) @interface VZConsolePortConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@property(nullable, readwrite, strong) VZSerialPortAttachment* attachment;
@end

API_AVAILABLE(macos(13.0)) @interface VZVirtioConsolePortConfiguration : VZConsolePortConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@property(nullable, readwrite, copy) NSString* name;
@property(readwrite) BOOL isConsole;
@end

API_AVAILABLE(macos(13.0)) @interface VZVirtioConsolePortConfigurationArray : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@property(readwrite) uint32_t maximumPortCount;
- (nullable VZVirtioConsolePortConfiguration*)objectAtIndexedSubscript:(NSUInteger)index;
- (void)setObject:(nullable VZVirtioConsolePortConfiguration*)configuration atIndexedSubscript:(NSUInteger)index;
@end

API_AVAILABLE(macos(13.0)) @interface VZConsoleDeviceConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(13.0)) @interface VZVirtioConsoleDeviceConfiguration : VZConsoleDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@property(readonly, copy) VZVirtioConsolePortConfigurationArray* ports;
@end

// --- Disks --------------------------------------------------------------------------------------------------------
typedef NS_ENUM(NSInteger, VZDiskImageCachingMode) {
  VZDiskImageCachingModeAutomatic = 0,
  VZDiskImageCachingModeUncached = 1,
  VZDiskImageCachingModeCached = 2,
} API_AVAILABLE(macos(12.0));

typedef NS_ENUM(NSInteger, VZDiskImageSynchronizationMode) {
  VZDiskImageSynchronizationModeFull = 1,
  VZDiskImageSynchronizationModeFsync = 2,
  VZDiskImageSynchronizationModeNone = 3,
} API_AVAILABLE(macos(12.0));

API_AVAILABLE(macos(11.0)) @interface VZStorageDeviceAttachment : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0)) @interface VZDiskImageStorageDeviceAttachment : VZStorageDeviceAttachment
- (nullable instancetype)initWithURL:(NSURL*)url
                            readOnly:(BOOL)readOnly
                         cachingMode:(VZDiskImageCachingMode)cachingMode
                 synchronizationMode:(VZDiskImageSynchronizationMode)synchronizationMode
                               error:(NSError**)error NS_DESIGNATED_INITIALIZER API_AVAILABLE(macos(12.0));
@property(readonly) NSURL* URL;
@property(readonly, getter=isReadOnly) BOOL readOnly;
@property(readonly) VZDiskImageCachingMode cachingMode API_AVAILABLE(macos(12.0));
@property(readonly) VZDiskImageSynchronizationMode synchronizationMode API_AVAILABLE(macos(12.0));
@end

API_AVAILABLE(macos(11.0)) @interface VZStorageDeviceConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@property(readonly) VZStorageDeviceAttachment* attachment;
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtioBlockDeviceConfiguration : VZStorageDeviceConfiguration
- (instancetype)initWithAttachment:(VZStorageDeviceAttachment*)attachment NS_DESIGNATED_INITIALIZER;
+ (BOOL)validateBlockDeviceIdentifier:(NSString*)identifier error:(NSError**)error API_AVAILABLE(macos(12.3));
@property(readwrite, copy) NSString* blockDeviceIdentifier API_AVAILABLE(macos(12.3));
@end

// --- Network ------------------------------------------------------------------------------------------------------
API_AVAILABLE(macos(11.0)) @interface VZMACAddress : NSObject<NSCopying>
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
- (nullable instancetype)initWithString:(NSString*)text;
@property(readonly, copy) NSString* string;
@property(readonly) BOOL isMulticastAddress;
@end

API_AVAILABLE(macos(11.0)) @interface VZNetworkDeviceAttachment : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0)) @interface VZNATNetworkDeviceAttachment : VZNetworkDeviceAttachment
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

API_AVAILABLE(macos(11.0)) @interface VZFileHandleNetworkDeviceAttachment : VZNetworkDeviceAttachment
- (instancetype)initWithFileHandle:(NSFileHandle*)handle NS_DESIGNATED_INITIALIZER;
@property(readonly) NSFileHandle* fileHandle;
@property NSInteger maximumTransmissionUnit API_AVAILABLE(macos(13.0));
@end

API_AVAILABLE(macos(11.0)) @interface VZNetworkDeviceConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@property(readwrite, copy) VZMACAddress* MACAddress;
@property(nullable, readwrite, strong) VZNetworkDeviceAttachment* attachment;
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtioNetworkDeviceConfiguration : VZNetworkDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

// --- Shared directories -------------------------------------------------------------------------------------------
API_AVAILABLE(macos(12.0)) @interface VZSharedDirectory : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
- (instancetype)initWithURL:(NSURL*)url readOnly:(BOOL)readOnly NS_DESIGNATED_INITIALIZER;
@property(readonly, copy) NSURL* URL;
@property(readonly, getter=isReadOnly) BOOL readOnly;
@end

API_AVAILABLE(macos(12.0)) @interface VZDirectoryShare : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(12.0)) @interface VZSingleDirectoryShare : VZDirectoryShare
- (instancetype)initWithDirectory:(VZSharedDirectory*)directory NS_DESIGNATED_INITIALIZER;
@property(readonly) VZSharedDirectory* directory;
@end

API_AVAILABLE(macos(12.0)) @interface VZDirectorySharingDeviceConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(12.0)) @interface VZVirtioFileSystemDeviceConfiguration : VZDirectorySharingDeviceConfiguration
- (instancetype)initWithTag:(NSString*)tag NS_DESIGNATED_INITIALIZER;
+ (BOOL)validateTag:(NSString*)tag error:(NSError**)error;
@property(readwrite, copy) NSString* tag;
@property(nullable, readwrite, strong) VZDirectoryShare* share;
@end

// --- Small devices ------------------------------------------------------------------------------------------------
API_AVAILABLE(macos(11.0)) @interface VZEntropyDeviceConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtioEntropyDeviceConfiguration : VZEntropyDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

API_AVAILABLE(macos(11.0)) @interface VZMemoryBalloonDeviceConfiguration : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0))
@interface VZVirtioTraditionalMemoryBalloonDeviceConfiguration : VZMemoryBalloonDeviceConfiguration
- (instancetype)init NS_DESIGNATED_INITIALIZER;
@end

API_AVAILABLE(macos(11.0)) @interface VZMemoryBalloonDevice : NSObject
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)init NS_UNAVAILABLE;
@end

API_AVAILABLE(macos(11.0)) @interface VZVirtioTraditionalMemoryBalloonDevice : VZMemoryBalloonDevice
@property(readwrite, atomic) uint64_t targetVirtualMachineMemorySize;
@end

NS_ASSUME_NONNULL_END
