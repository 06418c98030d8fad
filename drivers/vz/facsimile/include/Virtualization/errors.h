// Errors of the framework.
#pragma once

#import <Foundation/Foundation.h>

extern NSErrorDomain _Nonnull const VZErrorDomain;

typedef NS_ENUM(NSInteger, VZErrorCode) {
  VZErrorInternal = 1,
  VZErrorInvalidVirtualMachineConfiguration = 2,
  VZErrorInvalidVirtualMachineState = 3,
  VZErrorInvalidVirtualMachineStateTransition = 4,
  VZErrorInvalidDiskImage = 5,
  VZErrorVirtualMachineLimitExceeded = 6,
  VZErrorNetworkError = 7,
  VZErrorOutOfDiskSpace = 8,
  VZErrorOperationCancelled = 9,
  VZErrorNotSupported = 10,
  VZErrorSave = 11,
  VZErrorRestore = 12,
};
