// What mayfly-vz uses of Apple's Virtualization.framework, for Linux: the facsimile's declarations.
//
// Names, values and the versions that introduced them are Apple's (facsimile/virtualization_api.txt has the sources,
// and the test vz.api compares); types are as in Apple's documentation. Compiled for a Mac the same source includes
// Apple's header instead.
#pragma once

#import <Foundation/Foundation.h>
#import <Virtualization/configuration.h>
#import <Virtualization/devices.h>
#import <Virtualization/errors.h>
#import <Virtualization/virtual_machine.h>
