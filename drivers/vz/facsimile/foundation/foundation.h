// What the files of the facsimile's Foundation have for each other.
#pragma once

#import <Foundation/Foundation.h>

#include <cstdarg>
#include <string>

// Of the runtime.
extern "C" {
id objc_retain(id object);
void objc_release(id object);
id objc_autorelease(id object);
id class_createInstance(Class cls, size_t extra);
void object_dispose(id object);
bool class_respondsToSelector(Class cls, SEL selector);
Class class_getSuperclass(Class cls);
const char* class_getName(Class cls);
Class object_getClass(id object);
}

namespace mayfly::facsimile {

// The text of a format with %@.
std::string Formatted(NSString* format, va_list arguments);

}  // namespace mayfly::facsimile
