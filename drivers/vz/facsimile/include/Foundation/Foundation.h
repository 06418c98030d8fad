// What mayfly-vz uses of Apple's Foundation, for Linux: the facsimile's declarations.
//
// Names and meanings are Apple's, from its documentation; what the helper does not use is not here. Compiled for a Mac
// the same source includes Apple's header instead.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define nil nullptr
#define Nil nullptr
#if defined(__APPLE__) && !defined(__arm64__)
typedef signed char BOOL;
#define YES ((BOOL)1)
#define NO ((BOOL)0)
#else
typedef bool BOOL;
#define YES __objc_yes
#define NO __objc_no
#endif
typedef long NSInteger;
typedef unsigned long NSUInteger;
typedef double NSTimeInterval;

// NOLINTBEGIN(bugprone-macro-parentheses): names, not values
#define NS_ENUM(type, name) \
  enum name : type name;    \
  enum name : type
// NOLINTEND(bugprone-macro-parentheses)
#define NS_ASSUME_NONNULL_BEGIN _Pragma("clang assume_nonnull begin")
#define NS_ASSUME_NONNULL_END _Pragma("clang assume_nonnull end")
#ifdef MAYFLY_FACSIMILE_ITSELF
#define NS_UNAVAILABLE  // what it gives nobody, its own classes use
#else
#define NS_UNAVAILABLE __attribute__((unavailable))
#endif
#define NS_DESIGNATED_INITIALIZER __attribute__((objc_designated_initializer))
#define NS_FORMAT_FUNCTION(string, first) __attribute__((format(__NSString__, string, first)))
#define MAYFLY_INTRODUCED_macos(version) macos, introduced = version
#define API_AVAILABLE(platform) __attribute__((availability(MAYFLY_INTRODUCED_##platform)))

NS_ASSUME_NONNULL_BEGIN

@class NSString, NSData, NSDictionary<K, V>, NSArray<__covariant T>;

@protocol NSObject
- (BOOL)isEqual:(nullable id)object;
- (NSUInteger)hash;
- (Class)class;
- (BOOL)isKindOfClass:(Class)cls;
- (BOOL)respondsToSelector:(SEL)selector;
- (instancetype)self;
#if !__has_feature(objc_arc)
- (instancetype)retain;
- (oneway void)release;
- (instancetype)autorelease;
#endif
@end

@protocol NSCopying
- (id)copyWithZone:(nullable void*)zone;
@end

__attribute__((objc_root_class))
@interface NSObject<NSObject> {
 @public
  Class isa;
}
+ (instancetype)alloc;
+ (instancetype)new;
+ (Class)class;
- (instancetype)init;
- (void)dealloc;
- (id)copy;
@property(readonly, copy) NSString* description;
@end

@interface NSString : NSObject <NSCopying>
+ (nullable instancetype)stringWithUTF8String:(const char*)text;
// Of formats: %@ and those of printf.
+ (instancetype)stringWithFormat:(NSString*)format, ... NS_FORMAT_FUNCTION(1, 2);
@property(nullable, readonly) const char* UTF8String;
@property(readonly) NSUInteger length;
- (BOOL)isEqualToString:(NSString*)other;
@end

@interface NSData : NSObject <NSCopying>
+ (instancetype)dataWithBytes:(nullable const void*)bytes length:(NSUInteger)length;
@property(readonly) const void* bytes;
@property(readonly) NSUInteger length;
@end

@interface NSNumber : NSObject <NSCopying>
+ (NSNumber*)numberWithLongLong:(long long)value;
@property(readonly) long long longLongValue;
@end

struct NSFastEnumerationState {
  unsigned long state;
  id __unsafe_unretained _Nullable* _Nullable itemsPtr;
  unsigned long* _Nullable mutationsPtr;
  unsigned long extra[5];
};
@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)state
                                  objects:(id __unsafe_unretained _Nullable[_Nonnull])buffer
                                    count:(NSUInteger)count;
@end

@interface NSArray<__covariant T> : NSObject <NSFastEnumeration, NSCopying>
+ (instancetype)arrayWithObjects:(const T _Nonnull[_Nullable])objects count:(NSUInteger)count;
- (T)objectAtIndexedSubscript:(NSUInteger)index;
- (NSArray<T>*)arrayByAddingObject:(T)object;
@property(readonly) NSUInteger count;
@property(nullable, readonly) T firstObject;
@end

@interface NSDictionary<K, V> : NSObject <NSCopying>
+ (instancetype)dictionaryWithObjects:(const V _Nonnull[_Nullable])objects
                              forKeys:(const K _Nonnull[_Nullable])keys
                                count:(NSUInteger)count;
- (nullable V)objectForKeyedSubscript:(K)key;
@property(readonly) NSUInteger count;
@end

typedef NSString* NSErrorDomain;
typedef NSString* NSErrorUserInfoKey;
typedef NSString* NSExceptionName;
extern NSErrorDomain const NSPOSIXErrorDomain;
extern NSErrorUserInfoKey const NSUnderlyingErrorKey;
extern NSErrorUserInfoKey const NSLocalizedDescriptionKey;
extern NSErrorUserInfoKey const NSLocalizedFailureErrorKey;
extern NSErrorUserInfoKey const NSLocalizedFailureReasonErrorKey;
extern NSExceptionName const NSInvalidArgumentException;

@interface NSError : NSObject
+ (instancetype)errorWithDomain:(NSErrorDomain)domain
                           code:(NSInteger)code
                       userInfo:(nullable NSDictionary<NSErrorUserInfoKey, id>*)information;
@property(readonly, copy) NSErrorDomain domain;
@property(readonly) NSInteger code;
@property(readonly, copy) NSDictionary<NSErrorUserInfoKey, id>* userInfo;
@property(readonly, copy) NSString* localizedDescription;
@property(nullable, readonly, copy) NSString* localizedFailureReason;
@end

@interface NSException : NSObject
+ (void)raise:(NSExceptionName)name format:(NSString*)format, ... NS_FORMAT_FUNCTION(2, 3);
@property(readonly, copy) NSExceptionName name;
@property(nullable, readonly, copy) NSString* reason;
@end

@interface NSURL : NSObject <NSCopying>
+ (instancetype)fileURLWithPath:(NSString*)path;
@property(nullable, readonly, copy) NSString* path;
@end

@interface NSFileHandle : NSObject
- (instancetype)initWithFileDescriptor:(int)descriptor closeOnDealloc:(BOOL)closes;
@property(readonly) int fileDescriptor;
@end

typedef struct {
  NSInteger majorVersion;
  NSInteger minorVersion;
  NSInteger patchVersion;
} NSOperatingSystemVersion;

@interface NSProcessInfo : NSObject
@property(class, readonly, strong) NSProcessInfo* processInfo;
@property(readonly) NSOperatingSystemVersion operatingSystemVersion;
@end

NS_ASSUME_NONNULL_END

#include <dispatch/dispatch.h>
