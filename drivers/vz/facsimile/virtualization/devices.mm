// Devices: their configurations, and what is behind them.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#import "drivers/vz/facsimile/virtualization/internal.h"

using mayfly::facsimile::ConfigurationError;
using mayfly::facsimile::Fail;
using mayfly::facsimile::MakeError;
using mayfly::facsimile::PosixError;
using mayfly::facsimile::RequireObject;

// --- Serial ports and consoles ------------------------------------------------------------------------------------
@implementation VZSerialPortAttachment
@end

@implementation VZFileHandleSerialPortAttachment
- (instancetype)initWithFileHandleForReading:(NSFileHandle*)reading fileHandleForWriting:(NSFileHandle*)writing {
  if ((self = [super init]) != nil) {
    _fileHandleForReading = reading;
    _fileHandleForWriting = writing;
  }
  return self;
}
@end

@implementation VZFileSerialPortAttachment
- (instancetype)initWithURL:(NSURL*)url append:(BOOL)append error:(NSError**)error {
  if ((self = [super init]) == nil) return nil;
  int file = open(url.path.UTF8String, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0644);
  if (file < 0) {
    Fail(error, ConfigurationError(@"The file serial port attachment is invalid.", PosixError(errno)));
    return nil;
  }
  close(file);
  _URL = url;
  _append = append;
  return self;
}
@end

namespace mayfly::facsimile {

GuestChannel ChannelOf(VZSerialPortAttachment* attachment) {
  GuestChannel channel;
  if ([attachment isKindOfClass:[VZFileSerialPortAttachment class]]) {
    auto* file = static_cast<VZFileSerialPortAttachment*>(attachment);
    // Emptied when the attachment was made; a guest that starts anew goes on.
    return {.file = file.URL.path.UTF8String, .append = true};
  }
  if ([attachment isKindOfClass:[VZFileHandleSerialPortAttachment class]]) {
    auto* handles = static_cast<VZFileHandleSerialPortAttachment*>(attachment);
    NSFileHandle* handle =
        handles.fileHandleForWriting != nil ? handles.fileHandleForWriting : handles.fileHandleForReading;
    if (handle != nil) channel.socket = handle.fileDescriptor;
  }
  return channel;
}

}  // namespace mayfly::facsimile

@implementation VZSerialPortConfiguration
@end

@implementation VZVirtioConsoleDeviceSerialPortConfiguration
- (instancetype)init {
  return [super init];
}
@end

@implementation VZConsolePortConfiguration
@end

@implementation VZVirtioConsolePortConfiguration
- (instancetype)init {
  return [super init];
}
@end

@implementation VZVirtioConsolePortConfigurationArray {
  std::map<NSUInteger, VZVirtioConsolePortConfiguration*> _ports;
  uint32_t _maximum;
}
- (uint32_t)maximumPortCount {
  return _maximum;
}
- (void)setMaximumPortCount:(uint32_t)count {
  _maximum = count;
}
- (VZVirtioConsolePortConfiguration*)objectAtIndexedSubscript:(NSUInteger)index {
  auto found = _ports.find(index);
  return found == _ports.end() ? nil : found->second;
}
- (void)setObject:(VZVirtioConsolePortConfiguration*)configuration atIndexedSubscript:(NSUInteger)index {
  _ports[index] = configuration;
  if (index >= _maximum) _maximum = static_cast<uint32_t>(index + 1);
}
- (uint32_t)mayflyCount {
  return _maximum;
}
- (id)copyWithZone:(void*)zone {
  VZVirtioConsolePortConfigurationArray* copy = [[VZVirtioConsolePortConfigurationArray alloc] init];
  copy->_ports = _ports;
  copy->_maximum = _maximum;
  return copy;
}
@end

@implementation VZConsoleDeviceConfiguration
@end

@implementation VZVirtioConsoleDeviceConfiguration {
  VZVirtioConsolePortConfigurationArray* _ports;
}
- (instancetype)init {
  if ((self = [super init]) != nil) _ports = [[VZVirtioConsolePortConfigurationArray alloc] init];
  return self;
}
- (VZVirtioConsolePortConfigurationArray*)ports {
  return _ports;
}
@end

// --- Disks --------------------------------------------------------------------------------------------------------
@implementation VZStorageDeviceAttachment
@end

@implementation VZDiskImageStorageDeviceAttachment
- (instancetype)initWithURL:(NSURL*)url
                   readOnly:(BOOL)readOnly
                cachingMode:(VZDiskImageCachingMode)cachingMode
        synchronizationMode:(VZDiskImageSynchronizationMode)synchronizationMode
                      error:(NSError**)error {
  if ((self = [super init]) == nil) return nil;
  const char* path = url.path.UTF8String;
  struct stat status{};
  int trouble = stat(path, &status) != 0 || access(path, readOnly ? R_OK : R_OK | W_OK) != 0 ? errno : 0;
  constexpr int kSector = 512;
  if (trouble != 0 || !S_ISREG(status.st_mode) || status.st_size == 0 || status.st_size % kSector != 0) {
    Fail(error,
         MakeError(VZErrorInvalidDiskImage, @"Invalid disk image.",
                   trouble != 0 ? @"The disk image could not be opened." : @"The disk image format is not recognized.",
                   trouble != 0 ? PosixError(trouble) : nil));
    return nil;
  }
  _URL = url;
  _readOnly = readOnly;
  _cachingMode = cachingMode;
  _synchronizationMode = synchronizationMode;
  return self;
}
@end

@implementation VZStorageDeviceConfiguration {
 @protected
  VZStorageDeviceAttachment* _attachment;
}
- (VZStorageDeviceAttachment*)attachment {
  return _attachment;
}
@end

@implementation VZVirtioBlockDeviceConfiguration
- (instancetype)initWithAttachment:(VZStorageDeviceAttachment*)attachment {
  if ((self = [super init]) != nil) {
    RequireObject(attachment, @"attachment");
    _attachment = attachment;
    _blockDeviceIdentifier = @"";
  }
  return self;
}
+ (BOOL)validateBlockDeviceIdentifier:(NSString*)identifier error:(NSError**)error {
  constexpr size_t kLongest = 20;
  std::string_view text = identifier.UTF8String;
  bool ascii = true;
  for (char c : text) ascii = ascii && static_cast<unsigned char>(c) < 0x80;
  if (ascii && text.size() <= kLongest) return YES;
  return Fail(error, ConfigurationError(@"The block device identifier is invalid."));
}
@end

// --- Network ------------------------------------------------------------------------------------------------------
@implementation VZMACAddress {
  std::string _text;
}
- (instancetype)initWithString:(NSString*)text {
  if ((self = [super init]) == nil) return nil;
  std::string_view given = text.UTF8String;
  constexpr size_t kLength = 17;
  if (given.size() != kLength) return nil;
  for (size_t i = 0; i < given.size(); ++i) {
    bool right = i % 3 == 2 ? given[i] == ':' : std::isxdigit(static_cast<unsigned char>(given[i])) != 0;
    if (!right) return nil;
    _text += static_cast<char>(std::tolower(static_cast<unsigned char>(given[i])));
  }
  return self;
}
- (NSString*)string {
  return [NSString stringWithUTF8String:_text.c_str()];
}
- (BOOL)isMulticastAddress {
  return (std::stoi(_text.substr(0, 2), nullptr, 16) & 1) != 0;
}
- (id)copyWithZone:(void*)zone {
  return self;
}
@end

@implementation VZNetworkDeviceAttachment
@end

@implementation VZNATNetworkDeviceAttachment
- (instancetype)init {
  return [super init];
}
@end

@implementation VZFileHandleNetworkDeviceAttachment
- (instancetype)initWithFileHandle:(NSFileHandle*)handle {
  if ((self = [super init]) != nil) {
    RequireObject(handle, @"fileHandle");
    _fileHandle = handle;
    _maximumTransmissionUnit = 1500;
  }
  return self;
}
@end

@implementation VZNetworkDeviceConfiguration
@end

@implementation VZVirtioNetworkDeviceConfiguration
- (instancetype)init {
  if ((self = [super init]) != nil) self.MACAddress = [[VZMACAddress alloc] initWithString:@"02:00:00:00:00:01"];
  return self;
}
@end

// --- Shared directories -------------------------------------------------------------------------------------------
@implementation VZSharedDirectory
- (instancetype)initWithURL:(NSURL*)url readOnly:(BOOL)readOnly {
  if ((self = [super init]) != nil) {
    _URL = url;
    _readOnly = readOnly;
  }
  return self;
}
@end

@implementation VZDirectoryShare
@end

@implementation VZSingleDirectoryShare
- (instancetype)initWithDirectory:(VZSharedDirectory*)directory {
  if ((self = [super init]) != nil) _directory = directory;
  return self;
}
@end

@implementation VZDirectorySharingDeviceConfiguration
@end

@implementation VZVirtioFileSystemDeviceConfiguration
- (instancetype)initWithTag:(NSString*)tag {
  if (![VZVirtioFileSystemDeviceConfiguration validateTag:tag error:nullptr]) {
    [NSException raise:NSInvalidArgumentException format:@"the tag '%@' is invalid", tag];
  }
  if ((self = [super init]) != nil) _tag = tag;
  return self;
}
+ (BOOL)validateTag:(NSString*)tag error:(NSError**)error {
  constexpr size_t kEnd = 36;
  size_t length = std::strlen(tag.UTF8String);
  if (length > 0 && length < kEnd) return YES;
  return Fail(error, ConfigurationError(length == 0 ? @"The file system device tag cannot be empty."
                                                    : @"The file system device tag is too long."));
}
@end

// --- Small devices ------------------------------------------------------------------------------------------------
@implementation VZEntropyDeviceConfiguration
@end

@implementation VZVirtioEntropyDeviceConfiguration
- (instancetype)init {
  return [super init];
}
@end

@implementation VZMemoryBalloonDeviceConfiguration
@end

@implementation VZVirtioTraditionalMemoryBalloonDeviceConfiguration
- (instancetype)init {
  return [super init];
}
@end

@implementation VZMemoryBalloonDevice
@end

@implementation VZVirtioTraditionalMemoryBalloonDevice {
  uint64_t _memory;
  uint64_t _target;
  dispatch_queue_t _queue;
  void (^_resize)(uint64_t);
}
- (instancetype)mayflyInitWithMemory:(uint64_t)memory queue:(dispatch_queue_t)queue resize:(void (^)(uint64_t))resize {
  if ((self = [super init]) != nil) {
    _memory = _target = memory;
    _queue = queue;
    _resize = resize;
  }
  return self;
}
- (uint64_t)targetVirtualMachineMemorySize {
  dispatch_assert_queue(_queue);
  return _target;
}
- (void)setTargetVirtualMachineMemorySize:(uint64_t)target {
  dispatch_assert_queue(_queue);
  constexpr uint64_t kMebibyte = uint64_t{1} << 20;
  uint64_t least = VZVirtualMachineConfiguration.minimumAllowedMemorySize;
  _target = std::min(std::max(target / kMebibyte * kMebibyte, least), _memory);
  _resize(_target);
}
@end
