// The facsimile itself: the language's runtime, queues, and the framework's words, states and guards. No guest runs.
#import <Virtualization/Virtualization.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <csignal>
#include <future>
#include <stdexcept>
#include <string>

using mayfly::internal::TestDirectory;
using testing::HasSubstr;

@interface MayflyCounter : NSObject
@property(nonatomic) int* mayflyGone;
@end
@implementation MayflyCounter
- (void)dealloc {
  ++*_mayflyGone;
}
@end

@interface NSObject (MayflyUnknown)
- (void)mayflyUnknown;
@end

@interface MayflySpecialException : NSException
@end
@implementation MayflySpecialException
@end

namespace {

// --- Runtime and Foundation ------------------------------------------------------------------------------------------
TEST(VzFacsimileRuntime, AnObjectGoesWithItsLastReferenceAndWeakOnesBecomeNil) {
  int gone = 0;
  __weak MayflyCounter* weak = nil;
  @autoreleasepool {
    MayflyCounter* counter = [[MayflyCounter alloc] init];
    counter.mayflyGone = &gone;
    weak = counter;
    NSArray* array = @[ counter, counter ];
    EXPECT_EQ(array.count, 2U);
    EXPECT_NE(weak, nil);
    EXPECT_EQ(gone, 0);
  }
  EXPECT_EQ(gone, 1);
  EXPECT_EQ(weak, nil);
}

TEST(VzFacsimileRuntime, LiteralsOfOneCharacterOutliveTheirReferences) {
  for (int i = 0; i < 100; ++i) {
    @autoreleasepool {
      NSString* before = @"a";
      NSArray<NSString*>* all = @[ before, @"x", @"" ];
      NSString* copy = [all[1] copy];
      EXPECT_EQ(copy.length, 1U);
      EXPECT_TRUE([copy isEqual:@"x"]);
    }
  }
}

TEST(VzFacsimileRuntime, ExceptionsAreCaughtByTheirClassAndThoseOfCppPassThrough) {
  std::string path;
  @try {
    @try {
      [NSException raise:NSInvalidArgumentException format:@"%d of %@", 3, @"many"];
    } @catch (MayflySpecialException*) {
      path += "wrong";
    } @finally {
      path += "finally,";
    }
  } @catch (NSException* exception) {
    path += exception.reason.UTF8String;
  }
  EXPECT_EQ(path, "finally,3 of many");
  EXPECT_THROW(
      {
        @try {
          throw std::runtime_error("of C++");
        } @catch (NSException*) {
          ADD_FAILURE() << "taken for an NSException";
        }
      },
      std::runtime_error);
}

TEST(VzFacsimileRuntime, ABlockThatIsKeptOutlivesWhereItWasMade) {
  int gone = 0;
  @autoreleasepool {
    NSArray* all = @[];
    for (int i = 0; i < 3; ++i) {
      MayflyCounter* counter = [[MayflyCounter alloc] init];
      counter.mayflyGone = &gone;
      int (^block)(void) = ^{
        return counter.mayflyGone == nullptr ? -1 : i;
      };
      all = [all arrayByAddingObject:[block copy]];
    }
    int sum = 0;
    for (int (^block)(void) in all) sum += block();
    EXPECT_EQ(sum, 3);
    EXPECT_EQ(gone, 0) << "what a block refers to lives with it";
  }
  EXPECT_EQ(gone, 3);
}

TEST(VzFacsimileRuntime, AnUnknownSelectorEndsTheProcessAndNamesItself) {
  NSObject* object = @"text";
  EXPECT_DEATH([object mayflyUnknown], "unrecognized selector 'mayflyUnknown' sent to an instance of");
}

// --- Queues ----------------------------------------------------------------------------------------------------------
TEST(VzFacsimileQueue, RunsItsBlocksOneAfterAnother) {
  dispatch_queue_t queue = dispatch_queue_create("test", DISPATCH_QUEUE_SERIAL);
  __block std::string order;
  for (char c = 'a'; c <= 'e'; ++c) {
    dispatch_async(queue, ^{
      order += c;
    });
  }
  dispatch_sync(queue, ^{
    order += '!';
  });
  EXPECT_EQ(order, "abcde!");
}

TEST(VzFacsimileQueueDeathTest, TrapsOffTheQueueAndOnAWaitForItself) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  dispatch_queue_t queue = dispatch_queue_create("test", DISPATCH_QUEUE_SERIAL);
  EXPECT_EXIT(dispatch_assert_queue(queue), testing::KilledBySignal(SIGTRAP), "expected to execute on queue");
  EXPECT_EXIT(dispatch_sync(queue,
                            ^{
                              dispatch_sync(queue, ^{
                                            });
                            }),
              testing::KilledBySignal(SIGTRAP), "already owned by current thread");
}

// --- Configurations --------------------------------------------------------------------------------------------------
class VzFacsimileConfiguration : public testing::Test {
 protected:
  VzFacsimileConfiguration() {
    mayfly::internal::WriteWholeFile(directory_ / "kernel", "kernel");
    configuration_.bootLoader = [[VZLinuxBootLoader alloc] initWithKernelURL:Url("kernel")];
    configuration_.memorySize = uint64_t{256} << 20;
  }

  NSURL* Url(const std::string& name) {
    return [NSURL fileURLWithPath:[NSString stringWithUTF8String:(directory_ / name).c_str()]];
  }

  // The reason that the framework gives; empty for a valid configuration.
  std::string Fault() {
    NSError* error = nil;
    if ([configuration_ validateWithError:&error]) return "";
    EXPECT_TRUE([error.domain isEqualToString:VZErrorDomain]);
    EXPECT_EQ(error.code, VZErrorInvalidVirtualMachineConfiguration);
    EXPECT_THAT(error.localizedDescription.UTF8String, HasSubstr("Invalid virtual machine configuration."));
    return error.localizedFailureReason.UTF8String;
  }

  VZVirtioNetworkDeviceConfiguration* Nic(NSString* address) {
    VZVirtioNetworkDeviceConfiguration* nic = [[VZVirtioNetworkDeviceConfiguration alloc] init];
    nic.MACAddress = [[VZMACAddress alloc] initWithString:address];
    return nic;
  }

  TestDirectory directory_;
  VZVirtualMachineConfiguration* configuration_ = [[VZVirtualMachineConfiguration alloc] init];
};

TEST_F(VzFacsimileConfiguration, IsValidWithAKernelAndTheLeastOfTheRest) { EXPECT_EQ(Fault(), ""); }

TEST_F(VzFacsimileConfiguration, AMissingKernelIsAnInvalidBootLoaderWithItsCause) {
  configuration_.bootLoader = [[VZLinuxBootLoader alloc] initWithKernelURL:Url("none")];
  NSError* error = nil;
  EXPECT_FALSE([configuration_ validateWithError:&error]);
  EXPECT_STREQ(error.localizedFailureReason.UTF8String, "The boot loader is invalid.");
  NSError* cause = error.userInfo[NSUnderlyingErrorKey];
  EXPECT_TRUE([cause.domain isEqualToString:NSPOSIXErrorDomain]);
  EXPECT_EQ(cause.code, ENOENT);
  configuration_.bootLoader = nil;
  EXPECT_EQ(Fault(), "The boot loader is invalid.");
}

TEST_F(VzFacsimileConfiguration, CpusAndMemoryHaveTheirLimits) {
  configuration_.CPUCount = VZVirtualMachineConfiguration.maximumAllowedCPUCount + 1;
  EXPECT_THAT(Fault(), HasSubstr("CPUs is greater"));
  configuration_.CPUCount = 0;
  EXPECT_THAT(Fault(), HasSubstr("CPUs is less"));
  configuration_.CPUCount = 1;
  configuration_.memorySize += 4096;
  EXPECT_THAT(Fault(), HasSubstr("multiple of 1 megabyte"));
  configuration_.memorySize = uint64_t{1} << 20;
  EXPECT_THAT(Fault(), HasSubstr("memory size is less"));
}

TEST_F(VzFacsimileConfiguration, AddressesAreWellFormedAndThereOnce) {
  EXPECT_EQ([[VZMACAddress alloc] initWithString:@"02:00:00:00:00"], nil);
  EXPECT_EQ([[VZMACAddress alloc] initWithString:@"02-00-00-00-00-01"], nil);
  EXPECT_STREQ([[VZMACAddress alloc] initWithString:@"0A:00:00:00:00:01"].string.UTF8String, "0a:00:00:00:00:01");
  configuration_.networkDevices = @[ Nic(@"02:00:00:00:00:01"), Nic(@"02:00:00:00:00:01") ];
  EXPECT_THAT(Fault(), HasSubstr("duplicate MAC addresses"));
  configuration_.networkDevices = @[ Nic(@"01:00:5e:00:00:01") ];
  EXPECT_THAT(Fault(), HasSubstr("not a unicast address"));
}

TEST_F(VzFacsimileConfiguration, TagsAreBoundedAndThereOnce) {
  NSError* error = nil;
  EXPECT_FALSE([VZVirtioFileSystemDeviceConfiguration validateTag:@"" error:&error]);
  EXPECT_THAT(error.localizedFailureReason.UTF8String, HasSubstr("empty"));
  NSString* longest = [NSString stringWithUTF8String:std::string(35, 't').c_str()];
  NSString* too_long = [NSString stringWithUTF8String:std::string(36, 't').c_str()];
  EXPECT_TRUE([VZVirtioFileSystemDeviceConfiguration validateTag:longest error:nullptr]);
  EXPECT_FALSE([VZVirtioFileSystemDeviceConfiguration validateTag:too_long error:nullptr]);
  VZVirtioFileSystemDeviceConfiguration* share = [[VZVirtioFileSystemDeviceConfiguration alloc] initWithTag:@"share"];
  configuration_.directorySharingDevices = @[ share, share ];
  EXPECT_THAT(Fault(), HasSubstr("duplicate tags"));
}

TEST_F(VzFacsimileConfiguration, ADiskImageHasWholeSectors) {
  auto attach = [&](size_t size) {
    mayfly::internal::WriteWholeFile(directory_ / "disk", std::string(size, 'd'));
    NSError* error = nil;
    id image = [[VZDiskImageStorageDeviceAttachment alloc] initWithURL:Url("disk")
                                                              readOnly:NO
                                                           cachingMode:VZDiskImageCachingModeCached
                                                   synchronizationMode:VZDiskImageSynchronizationModeNone
                                                                 error:&error];
    EXPECT_EQ(image == nil, error != nil);
    return error == nil ? 0 : error.code;
  };
  EXPECT_EQ(attach(1024), 0);
  EXPECT_EQ(attach(1000), VZErrorInvalidDiskImage);
  EXPECT_EQ(attach(0), VZErrorInvalidDiskImage);
}

// --- Machines --------------------------------------------------------------------------------------------------------
TEST_F(VzFacsimileConfiguration, AStoppedMachineCanStartOnlyAndSaysWhyNotTheRest) {
  dispatch_queue_t queue = dispatch_queue_create("test", DISPATCH_QUEUE_SERIAL);
  auto* pausing = new std::promise<NSError*>;
  __block VZVirtualMachine* machine = nil;
  dispatch_sync(queue, ^{
    machine = [[VZVirtualMachine alloc] initWithConfiguration:configuration_ queue:queue];
    EXPECT_EQ(machine.state, VZVirtualMachineStateStopped);
    EXPECT_TRUE(machine.canStart);
    EXPECT_FALSE(machine.canStop || machine.canPause || machine.canResume || machine.canRequestStop);
    NSError* error = nil;
    EXPECT_FALSE([machine requestStopWithError:&error]);
    EXPECT_EQ(error.code, VZErrorInvalidVirtualMachineState);
    [machine pauseWithCompletionHandler:^(NSError* refused) {
      pausing->set_value(refused);
    }];
  });
  NSError* refused = pausing->get_future().get();
  EXPECT_EQ(refused.code, VZErrorInvalidVirtualMachineStateTransition);
  EXPECT_STREQ(refused.localizedFailureReason.UTF8String,
               "Transition from state “stopped” to state “pausing” is invalid.");
  dispatch_sync(queue, ^{
    machine = nil;
  });
  delete pausing;
}

TEST_F(VzFacsimileConfiguration, AMachineHoldsItsDelegateWeakly) {
  dispatch_queue_t queue = dispatch_queue_create("test", DISPATCH_QUEUE_SERIAL);
  dispatch_sync(queue, ^{
    VZVirtualMachine* machine = [[VZVirtualMachine alloc] initWithConfiguration:configuration_ queue:queue];
    @autoreleasepool {
      NSObject<VZVirtualMachineDelegate>* delegate = (NSObject<VZVirtualMachineDelegate>*)[[NSObject alloc] init];
      machine.delegate = delegate;
      EXPECT_NE(machine.delegate, nil);
    }
    EXPECT_EQ(machine.delegate, nil);
  });
}

TEST_F(VzFacsimileConfiguration, AnInvalidConfigurationMakesNoMachine) {
  configuration_.bootLoader = nil;
  dispatch_queue_t queue = dispatch_queue_create("test", DISPATCH_QUEUE_SERIAL);
  bool raised = false;
  @try {
    static_cast<void>([[VZVirtualMachine alloc] initWithConfiguration:configuration_ queue:queue]);
  } @catch (NSException*) {
    raised = true;
  }
  EXPECT_TRUE(raised);
}

}  // namespace
