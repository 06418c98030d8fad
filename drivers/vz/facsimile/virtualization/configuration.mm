// Configurations, and what the framework finds wrong with them.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <set>
#include <string>
#include <thread>

#import "drivers/vz/facsimile/virtualization/internal.h"
#include "drivers/vz/facsimile/virtualization/simulated_host.h"

using mayfly::facsimile::ConfigurationError;
using mayfly::facsimile::Fail;
using mayfly::facsimile::GuestHardware;
using mayfly::facsimile::GuestNic;
using mayfly::facsimile::GuestPort;
using mayfly::facsimile::Host;
using mayfly::facsimile::PosixError;

// --- Boot loader and platform -------------------------------------------------------------------------------------
@implementation VZBootLoader
- (id)copyWithZone:(void*)zone {
  return self;
}
@end

@implementation VZLinuxBootLoader
- (instancetype)initWithKernelURL:(NSURL*)url {
  if ((self = [super init]) != nil) {
    _kernelURL = url;
    _commandLine = @"";
  }
  return self;
}
- (id)copyWithZone:(void*)zone {
  VZLinuxBootLoader* copy = [[VZLinuxBootLoader alloc] initWithKernelURL:self.kernelURL];
  copy.commandLine = self.commandLine;
  copy.initialRamdiskURL = self.initialRamdiskURL;
  return copy;
}
@end

@implementation VZGenericMachineIdentifier {
  NSData* _data;
}
- (instancetype)init {
  if ((self = [super init]) != nil) {
    std::random_device random;
    uint32_t words[4] = {random(), random(), random(), random()};
    _data = [NSData dataWithBytes:words length:sizeof words];
  }
  return self;
}
- (instancetype)initWithDataRepresentation:(NSData*)data {
  if ((self = [super init]) == nil || data.length != 16) return nil;
  _data = data;
  return self;
}
- (NSData*)dataRepresentation {
  return _data;
}
- (id)copyWithZone:(void*)zone {
  return self;
}
@end

@implementation VZPlatformConfiguration
- (id)copyWithZone:(void*)zone {
  return self;
}
@end

@implementation VZGenericPlatformConfiguration
- (instancetype)init {
  if ((self = [super init]) != nil) _machineIdentifier = [[VZGenericMachineIdentifier alloc] init];
  return self;
}
+ (BOOL)isNestedVirtualizationSupported {
  return NO;
}
- (id)copyWithZone:(void*)zone {
  VZGenericPlatformConfiguration* copy = [[VZGenericPlatformConfiguration alloc] init];
  copy.machineIdentifier = self.machineIdentifier;
  copy.nestedVirtualizationEnabled = self.nestedVirtualizationEnabled;
  return copy;
}
@end

// --- Validation ---------------------------------------------------------------------------------------------------
namespace {

constexpr uint64_t kMebibyte = uint64_t{1} << 20;

NSError* FaultOfBootLoader(VZBootLoader* loader) {
  if (![loader isKindOfClass:[VZLinuxBootLoader class]]) return ConfigurationError(@"The boot loader is invalid.");
  auto* linux_loader = static_cast<VZLinuxBootLoader*>(loader);
  for (NSURL* url : {linux_loader.kernelURL, linux_loader.initialRamdiskURL}) {
    if (url != nil && access(url.path.UTF8String, R_OK) != 0) {
      return ConfigurationError(@"The boot loader is invalid.", PosixError(errno));
    }
  }
  return nil;
}

NSError* FaultOfSize(VZVirtualMachineConfiguration* configuration) {
  if (configuration.CPUCount < VZVirtualMachineConfiguration.minimumAllowedCPUCount) {
    return ConfigurationError(@"The number of virtual CPUs is less than the minimum allowed.");
  }
  if (configuration.CPUCount > VZVirtualMachineConfiguration.maximumAllowedCPUCount) {
    return ConfigurationError(@"The number of virtual CPUs is greater than the maximum allowed.");
  }
  if (configuration.memorySize % kMebibyte != 0) {
    return ConfigurationError(@"The memory size is not a multiple of 1 megabyte.");
  }
  if (configuration.memorySize < VZVirtualMachineConfiguration.minimumAllowedMemorySize) {
    return ConfigurationError(@"The memory size is less than the minimum allowed.");
  }
  if (configuration.memorySize > VZVirtualMachineConfiguration.maximumAllowedMemorySize) {
    return ConfigurationError(@"The memory size is greater than the maximum allowed.");
  }
  return nil;
}

NSError* FaultOfShares(NSArray<VZDirectorySharingDeviceConfiguration*>* devices) {
  std::set<std::string> tags;
  for (VZDirectorySharingDeviceConfiguration* device in devices) {
    auto* file_system = static_cast<VZVirtioFileSystemDeviceConfiguration*>(device);
    NSError* error = nil;
    if (![VZVirtioFileSystemDeviceConfiguration validateTag:file_system.tag error:&error]) return error;
    if (!tags.insert(file_system.tag.UTF8String).second) {
      return ConfigurationError(@"The directory sharing devices have duplicate tags.");
    }
    if (![file_system.share isKindOfClass:[VZSingleDirectoryShare class]]) continue;
    auto* share = static_cast<VZSingleDirectoryShare*>(file_system.share);
    struct stat status{};
    if (stat(share.directory.URL.path.UTF8String, &status) != 0 || !S_ISDIR(status.st_mode)) {
      return ConfigurationError(@"A directory share is invalid.", PosixError(ENOENT));
    }
  }
  return nil;
}

NSError* FaultOfNetwork(NSArray<VZNetworkDeviceConfiguration*>* devices) {
  std::set<std::string> addresses;
  for (VZNetworkDeviceConfiguration* device in devices) {
    if (device.MACAddress.isMulticastAddress) {
      return ConfigurationError(@"The MAC address of a network device is not a unicast address.");
    }
    if (!addresses.insert(device.MACAddress.string.UTF8String).second) {
      return ConfigurationError(@"The network devices have duplicate MAC addresses.");
    }
    if (![device.attachment isKindOfClass:[VZFileHandleNetworkDeviceAttachment class]]) continue;
    NSInteger mtu = static_cast<VZFileHandleNetworkDeviceAttachment*>(device.attachment).maximumTransmissionUnit;
    constexpr NSInteger kLeast = 1500;
    constexpr NSInteger kMost = 65535;
    if (mtu < kLeast || mtu > kMost) {
      return ConfigurationError(@"The maximum transmission unit of a network device is out of range.");
    }
  }
  return nil;
}

NSError* FaultOfCounts(VZVirtualMachineConfiguration* configuration) {
  if (configuration.entropyDevices.count > 1) {
    return ConfigurationError(@"Number of entropy devices is greater than the maximum number supported.");
  }
  if (configuration.memoryBalloonDevices.count > 1) {
    return ConfigurationError(@"Number of memory balloon devices is greater than the maximum number supported.");
  }
  return nil;
}

NSError* FaultOf(VZVirtualMachineConfiguration* configuration) {
  if (!Host().hardware) return ConfigurationError(@"Virtualization is not available on this hardware.");
  if (!Host().entitled) {
    return ConfigurationError(@"The process doesn’t have the “com.apple.security.virtualization” entitlement.");
  }
  if (NSError* error = FaultOfBootLoader(configuration.bootLoader)) return error;
  if (NSError* error = FaultOfSize(configuration)) return error;
  if (NSError* error = FaultOfShares(configuration.directorySharingDevices)) return error;
  if (NSError* error = FaultOfNetwork(configuration.networkDevices)) return error;
  return FaultOfCounts(configuration);
}

}  // namespace

@implementation VZVirtualMachineConfiguration
- (instancetype)init {
  if ((self = [super init]) != nil) {
    _memorySize = VZVirtualMachineConfiguration.minimumAllowedMemorySize;
    _CPUCount = VZVirtualMachineConfiguration.minimumAllowedCPUCount;
    _platform = [[VZGenericPlatformConfiguration alloc] init];
    _consoleDevices = @[];
    _directorySharingDevices = @[];
    _entropyDevices = @[];
    _memoryBalloonDevices = @[];
    _networkDevices = @[];
    _serialPorts = @[];
    _storageDevices = @[];
  }
  return self;
}
- (BOOL)validateWithError:(NSError**)error {
  NSError* fault = FaultOf(self);
  return fault == nil ? YES : Fail(error, fault);
}
// A small Mac, whatever this host is.
+ (uint64_t)minimumAllowedMemorySize {
  return 32 * kMebibyte;
}
+ (uint64_t)maximumAllowedMemorySize {
  uint64_t pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / kMebibyte * kMebibyte;
}
+ (NSUInteger)minimumAllowedCPUCount {
  return 1;
}
+ (NSUInteger)maximumAllowedCPUCount {
  constexpr NSUInteger kCores = 8;
  return std::max<NSUInteger>(kCores, std::thread::hardware_concurrency());
}
- (id)copyWithZone:(void*)zone {
  VZVirtualMachineConfiguration* copy = [[VZVirtualMachineConfiguration alloc] init];
  copy.bootLoader = self.bootLoader;
  copy.memorySize = self.memorySize;
  copy.CPUCount = self.CPUCount;
  copy.platform = self.platform;
  copy.consoleDevices = self.consoleDevices;
  copy.directorySharingDevices = self.directorySharingDevices;
  copy.entropyDevices = self.entropyDevices;
  copy.memoryBalloonDevices = self.memoryBalloonDevices;
  copy.networkDevices = self.networkDevices;
  copy.serialPorts = self.serialPorts;
  copy.storageDevices = self.storageDevices;
  return copy;
}
@end

// --- What the guest is made of ------------------------------------------------------------------------------------
namespace mayfly::facsimile {
namespace {

std::string PathOf(NSURL* url) { return url == nil ? std::string() : std::string(url.path.UTF8String); }

void AddConsoles(VZVirtualMachineConfiguration* configuration, GuestHardware& guest) {
  for (VZSerialPortConfiguration* port in configuration.serialPorts) {
    guest.serial_ports.push_back(ChannelOf(port.attachment));
  }
  for (VZConsoleDeviceConfiguration* device in configuration.consoleDevices) {
    VZVirtioConsolePortConfigurationArray* ports = static_cast<VZVirtioConsoleDeviceConfiguration*>(device).ports;
    std::vector<GuestPort>& made = guest.console_devices.emplace_back();
    for (uint32_t i = 0; i < [ports mayflyCount]; ++i) {
      VZVirtioConsolePortConfiguration* port = ports[i];
      if (port == nil) continue;
      made.push_back({.name = port.name == nil ? "" : port.name.UTF8String,
                      .console = static_cast<bool>(port.isConsole),
                      .channel = ChannelOf(port.attachment)});
    }
  }
}

void AddDisks(VZVirtualMachineConfiguration* configuration, GuestHardware& guest) {
  for (VZStorageDeviceConfiguration* device in configuration.storageDevices) {
    auto* image = static_cast<VZDiskImageStorageDeviceAttachment*>(device.attachment);
    auto* block = static_cast<VZVirtioBlockDeviceConfiguration*>(device);
    guest.disks.push_back({.file = PathOf(image.URL),
                           .read_only = static_cast<bool>(image.readOnly),
                           .cached = image.cachingMode != VZDiskImageCachingModeUncached,
                           .flushes = image.synchronizationMode != VZDiskImageSynchronizationModeNone,
                           .identifier = block.blockDeviceIdentifier.UTF8String});
  }
}

void AddNics(VZVirtualMachineConfiguration* configuration, GuestHardware& guest) {
  for (VZNetworkDeviceConfiguration* device in configuration.networkDevices) {
    GuestNic nic{.mac = device.MACAddress.string.UTF8String};
    if ([device.attachment isKindOfClass:[VZNATNetworkDeviceAttachment class]]) nic.kind = GuestNic::Kind::kNat;
    if ([device.attachment isKindOfClass:[VZFileHandleNetworkDeviceAttachment class]]) {
      auto* handle = static_cast<VZFileHandleNetworkDeviceAttachment*>(device.attachment);
      constexpr NSInteger kUsual = 1500;
      nic.kind = GuestNic::Kind::kDatagrams;
      nic.socket = handle.fileHandle.fileDescriptor;
      nic.mtu = handle.maximumTransmissionUnit == kUsual ? 0 : handle.maximumTransmissionUnit;
    }
    guest.nics.push_back(std::move(nic));
  }
}

void AddShares(VZVirtualMachineConfiguration* configuration, GuestHardware& guest) {
  for (VZDirectorySharingDeviceConfiguration* device in configuration.directorySharingDevices) {
    auto* file_system = static_cast<VZVirtioFileSystemDeviceConfiguration*>(device);
    auto* share = static_cast<VZSingleDirectoryShare*>(file_system.share);
    if (share == nil) continue;
    guest.shares.push_back({.tag = file_system.tag.UTF8String,
                            .directory = PathOf(share.directory.URL),
                            .read_only = static_cast<bool>(share.directory.readOnly)});
  }
}

}  // namespace

GuestHardware HardwareOf(VZVirtualMachineConfiguration* configuration) {
  auto* loader = static_cast<VZLinuxBootLoader*>(configuration.bootLoader);
  GuestHardware guest{.cpus = configuration.CPUCount,
                      .memory = configuration.memorySize,
                      .kernel = PathOf(loader.kernelURL),
                      .initial_ramdisk = PathOf(loader.initialRamdiskURL),
                      .command_line = loader.commandLine.UTF8String,
                      .entropy = configuration.entropyDevices.count > 0,
                      .balloon = configuration.memoryBalloonDevices.count > 0};
  AddConsoles(configuration, guest);
  AddDisks(configuration, guest);
  AddNics(configuration, guest);
  AddShares(configuration, guest);
  return guest;
}

}  // namespace mayfly::facsimile
