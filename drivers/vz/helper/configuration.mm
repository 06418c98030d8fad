#include "drivers/vz/helper/configuration.h"

#include <fmt/format.h>

#include <string>

#include "drivers/vz/helper/framework_error.h"

namespace mayfly::vz {
namespace {

using internal::UniqueFd;
using nlohmann::json;
using Descriptors = std::vector<UniqueFd>;

[[noreturn]] void Refuse(NSError* error, const std::string& what) { throw Refusal{ToJson(error, what)}; }

NSFileHandle* TakeDescriptor(const json& device, Descriptors& descriptors) {
  UniqueFd& descriptor = descriptors.at(device.at("descriptor").get<size_t>());
  return [[NSFileHandle alloc] initWithFileDescriptor:descriptor.Release() closeOnDealloc:YES];
}

void SetSize(VZVirtualMachineConfiguration* configuration, const json& request) {
  auto refuse = [](const std::string& field, const std::string& value, const std::string& allowed) {
    throw Refusal{BadSpecJson(fmt::format("spec: {}: {} is not allowed; allowed: {}", field, value, allowed))};
  };
  auto cpus = request.at("cpus").get<NSUInteger>();
  auto memory = request.at("memory").get<uint64_t>();
  NSUInteger least = VZVirtualMachineConfiguration.minimumAllowedCPUCount;
  NSUInteger most = VZVirtualMachineConfiguration.maximumAllowedCPUCount;
  if (cpus < least || cpus > most)
    refuse("cpus", std::to_string(cpus), fmt::format("{} to {} on this host", least, most));
  constexpr uint64_t kMebibyte = uint64_t{1} << 20;
  uint64_t least_memory = VZVirtualMachineConfiguration.minimumAllowedMemorySize;
  uint64_t most_memory = VZVirtualMachineConfiguration.maximumAllowedMemorySize;
  if (memory < least_memory || memory > most_memory || memory % kMebibyte != 0) {
    refuse("memory", fmt::format("{} bytes", memory),
           fmt::format("a multiple of 1 MiB from {} to {} MiB on this host", least_memory / kMebibyte,
                       most_memory / kMebibyte));
  }
  configuration.CPUCount = cpus;
  configuration.memorySize = memory;
}

void SetBoot(VZVirtualMachineConfiguration* configuration, const json& request) {
  VZLinuxBootLoader* loader = [[VZLinuxBootLoader alloc] initWithKernelURL:ToURL(request.at("kernel"))];
  loader.commandLine = ToNSString(request.at("command_line"));
  if (std::string initramfs = request.at("initramfs"); !initramfs.empty()) loader.initialRamdiskURL = ToURL(initramfs);
  configuration.bootLoader = loader;
}

void SetPlatform(VZVirtualMachineConfiguration* configuration, const json& request) {
  VZGenericPlatformConfiguration* platform = [[VZGenericPlatformConfiguration alloc] init];
  if (request.contains("machine_identifier")) {
    const json::binary_t& bytes = request.at("machine_identifier").get_binary();
    NSData* data = [NSData dataWithBytes:bytes.data() length:bytes.size()];
    VZGenericMachineIdentifier* identifier = [[VZGenericMachineIdentifier alloc] initWithDataRepresentation:data];
    if (identifier == nil) throw Refusal{BadSpecJson("the machine identifier is none of this framework")};
    platform.machineIdentifier = identifier;
  }
  configuration.platform = platform;
}

// The console goes to the end of a file, so that a log is kept over restarts; the agent has a port of its own.
void SetConsoles(VZVirtualMachineConfiguration* configuration, const json& request, Descriptors& descriptors) {
  NSError* error = nil;
  std::string console = request.at("console");
  VZFileSerialPortAttachment* file = [[VZFileSerialPortAttachment alloc] initWithURL:ToURL(console)
                                                                              append:YES
                                                                               error:&error];
  if (file == nil) Refuse(error, fmt::format("cannot write the console to {}", console));
  VZVirtioConsoleDeviceSerialPortConfiguration* serial = [[VZVirtioConsoleDeviceSerialPortConfiguration alloc] init];
  serial.attachment = file;
  configuration.serialPorts = @[ serial ];
  if (!request.contains("agent")) return;
  const json& agent = request.at("agent");
  NSFileHandle* channel = TakeDescriptor(agent, descriptors);
  VZVirtioConsolePortConfiguration* port = [[VZVirtioConsolePortConfiguration alloc] init];
  port.name = ToNSString(agent.at("port"));
  port.attachment = [[VZFileHandleSerialPortAttachment alloc] initWithFileHandleForReading:channel
                                                                      fileHandleForWriting:channel];
  VZVirtioConsoleDeviceConfiguration* device = [[VZVirtioConsoleDeviceConfiguration alloc] init];
  device.ports[0] = port;
  configuration.consoleDevices = @[ device ];
}

VZDiskImageSynchronizationMode SynchronizationOf(const std::string& name) {
  if (name == "none") return VZDiskImageSynchronizationModeNone;
  return name == "fsync" ? VZDiskImageSynchronizationModeFsync : VZDiskImageSynchronizationModeFull;
}

void SetDisks(VZVirtualMachineConfiguration* configuration, const json& request) {
  for (const json& disk : request.at("disks")) {
    std::string name = disk.at("id");
    NSError* error = nil;
    // Cached always, or past the host's cache: with the framework's own choice, Automatic, file systems of Linux guests
    // were corrupted (github.com/utmapp/UTM issue 4840).
    VZDiskImageCachingMode caching =
        disk.at("direct").get<bool>() ? VZDiskImageCachingModeUncached : VZDiskImageCachingModeCached;
    VZDiskImageStorageDeviceAttachment* image =
        [[VZDiskImageStorageDeviceAttachment alloc] initWithURL:ToURL(disk.at("path"))
                                                       readOnly:disk.at("readonly").get<bool>()
                                                    cachingMode:caching
                                            synchronizationMode:SynchronizationOf(disk.at("synchronization"))
                                                          error:&error];
    if (image == nil) Refuse(error, fmt::format("disk '{}': {}", name, disk.at("path").get<std::string>()));
    NSString* identifier = ToNSString(name);
    if (![VZVirtioBlockDeviceConfiguration validateBlockDeviceIdentifier:identifier error:&error]) {
      Refuse(error, fmt::format("disk '{}'", name));
    }
    VZVirtioBlockDeviceConfiguration* device = [[VZVirtioBlockDeviceConfiguration alloc] initWithAttachment:image];
    device.blockDeviceIdentifier = identifier;
    configuration.storageDevices = [configuration.storageDevices arrayByAddingObject:device];
  }
}

VZNetworkDeviceAttachment* AttachmentOf(const json& nic, Descriptors& descriptors) {
  std::string kind = nic.at("kind");
  if (kind == "nat") return [[VZNATNetworkDeviceAttachment alloc] init];
  if (kind != "datagrams") return nil;
  VZFileHandleNetworkDeviceAttachment* attachment =
      [[VZFileHandleNetworkDeviceAttachment alloc] initWithFileHandle:TakeDescriptor(nic, descriptors)];
  if (auto mtu = nic.at("mtu").get<NSInteger>(); mtu > 0) attachment.maximumTransmissionUnit = mtu;
  return attachment;
}

void SetNics(VZVirtualMachineConfiguration* configuration, const json& request, Descriptors& descriptors) {
  for (const json& nic : request.at("nics")) {
    std::string text = nic.at("mac");
    VZMACAddress* address = [[VZMACAddress alloc] initWithString:ToNSString(text)];
    if (address == nil) {
      throw Refusal{BadSpecJson(fmt::format("spec: nics: '{}': mac: \"{}\" is no address; allowed: six bytes such as "
                                            "02:00:00:00:00:01",
                                            nic.at("id").get<std::string>(), text))};
    }
    VZVirtioNetworkDeviceConfiguration* device = [[VZVirtioNetworkDeviceConfiguration alloc] init];
    device.MACAddress = address;
    device.attachment = AttachmentOf(nic, descriptors);
    configuration.networkDevices = [configuration.networkDevices arrayByAddingObject:device];
  }
}

void SetShares(VZVirtualMachineConfiguration* configuration, const json& request) {
  for (const json& share : request.at("shares")) {
    NSString* tag = ToNSString(share.at("tag"));
    NSError* error = nil;
    if (![VZVirtioFileSystemDeviceConfiguration validateTag:tag error:&error]) {
      Refuse(error, fmt::format("share '{}'", share.at("tag").get<std::string>()));
    }
    VZSharedDirectory* directory = [[VZSharedDirectory alloc] initWithURL:ToURL(share.at("path"))
                                                                 readOnly:share.at("readonly").get<bool>()];
    VZVirtioFileSystemDeviceConfiguration* device = [[VZVirtioFileSystemDeviceConfiguration alloc] initWithTag:tag];
    device.share = [[VZSingleDirectoryShare alloc] initWithDirectory:directory];
    configuration.directorySharingDevices = [configuration.directorySharingDevices arrayByAddingObject:device];
  }
}

VZVirtualMachineConfiguration* Make(const json& request, Descriptors& descriptors) {
  VZVirtualMachineConfiguration* configuration = [[VZVirtualMachineConfiguration alloc] init];
  SetSize(configuration, request);
  SetBoot(configuration, request);
  SetPlatform(configuration, request);
  SetConsoles(configuration, request, descriptors);
  SetDisks(configuration, request);
  SetNics(configuration, request, descriptors);
  SetShares(configuration, request);
  if (request.at("rng").get<bool>())
    configuration.entropyDevices = @[ [[VZVirtioEntropyDeviceConfiguration alloc] init] ];
  if (request.at("balloon").get<bool>()) {
    configuration.memoryBalloonDevices = @[ [[VZVirtioTraditionalMemoryBalloonDeviceConfiguration alloc] init] ];
  }
  NSError* error = nil;
  if (![configuration validateWithError:&error]) Refuse(error, "the framework refuses the configuration");
  return configuration;
}

}  // namespace

VZVirtualMachineConfiguration* ConfigurationOf(const json& request, Descriptors& descriptors) {
  @try {
    return Make(request, descriptors);
  } @catch (NSException* exception) {
    throw Refusal{ToJson(exception, "the framework refuses the configuration")};
  }
}

std::vector<uint8_t> IdentifierOf(VZVirtualMachineConfiguration* configuration) {
  if (![configuration.platform isKindOfClass:[VZGenericPlatformConfiguration class]]) return {};
  auto* platform = static_cast<VZGenericPlatformConfiguration*>(configuration.platform);
  NSData* data = platform.machineIdentifier.dataRepresentation;
  const auto* bytes = static_cast<const uint8_t*>(data.bytes);
  return {bytes, bytes + data.length};
}

}  // namespace mayfly::vz
