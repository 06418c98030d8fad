// Arrays, dictionaries, errors and exceptions. Compiled without ARC.
#include <map>
#include <string>
#include <vector>

#import "drivers/vz/facsimile/foundation/foundation.h"

@implementation NSArray {
  std::vector<id> _objects;
}
+ (instancetype)arrayWithObjects:(const id*)objects count:(NSUInteger)count {
  NSArray* array = [[self alloc] init];
  for (NSUInteger i = 0; i < count; ++i) array->_objects.push_back([objects[i] retain]);
  return [array autorelease];
}
- (NSArray*)arrayByAddingObject:(id)object {
  std::vector<id> objects = _objects;
  objects.push_back(object);
  return [NSArray arrayWithObjects:objects.data() count:objects.size()];
}
- (NSUInteger)count {
  return _objects.size();
}
- (id)firstObject {
  return _objects.empty() ? nil : _objects.front();
}
- (id)objectAtIndexedSubscript:(NSUInteger)index {
  if (index >= _objects.size()) {
    [NSException raise:@"NSRangeException" format:@"index %lu of an array of %lu", index, self.count];
  }
  return _objects[index];
}
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)state objects:(id*)buffer count:(NSUInteger)count {
  if (state->state != 0) return 0;
  state->state = 1;
  state->itemsPtr = _objects.data();
  state->mutationsPtr = &state->extra[0];
  return _objects.size();
}
- (id)copyWithZone:(void*)zone {
  return [self retain];
}
- (void)dealloc {
  for (id object : _objects) [object release];
  [super dealloc];
}
@end

// Keys are strings here.
@implementation NSDictionary {
  std::map<std::string, id> _objects;
}
+ (instancetype)dictionaryWithObjects:(const id*)objects forKeys:(const id*)keys count:(NSUInteger)count {
  NSDictionary* dictionary = [[self alloc] init];
  for (NSUInteger i = 0; i < count; ++i) {
    id& place = dictionary->_objects [[keys [i] UTF8String]];
    [place release];
    place = [objects[i] retain];
  }
  return [dictionary autorelease];
}
- (NSUInteger)count {
  return _objects.size();
}
- (id)objectForKeyedSubscript:(id)key {
  auto found = _objects.find([key UTF8String]);
  return found == _objects.end() ? nil : found->second;
}
- (id)copyWithZone:(void*)zone {
  return [self retain];
}
- (void)dealloc {
  for (auto& [key, object] : _objects) [object release];
  [super dealloc];
}
@end

// What the compiler takes for @[] and @{}.
extern "C" {
id __NSArray0__;
id __NSDictionary0__;
}
constexpr int kAfterTheClasses = 102;
__attribute__((constructor(kAfterTheClasses))) static void MakeEmptyCollections() {
  __NSArray0__ = [[NSArray alloc] init];
  __NSDictionary0__ = [[NSDictionary alloc] init];
}

NSErrorDomain const NSPOSIXErrorDomain = @"NSPOSIXErrorDomain";
NSErrorUserInfoKey const NSUnderlyingErrorKey = @"NSUnderlyingError";
NSErrorUserInfoKey const NSLocalizedDescriptionKey = @"NSLocalizedDescription";
NSErrorUserInfoKey const NSLocalizedFailureErrorKey = @"NSLocalizedFailure";
NSErrorUserInfoKey const NSLocalizedFailureReasonErrorKey = @"NSLocalizedFailureReason";
NSExceptionName const NSInvalidArgumentException = @"NSInvalidArgumentException";

@implementation NSError {
  NSString* _domain;
  NSInteger _code;
  NSDictionary* _userInfo;
}
+ (instancetype)errorWithDomain:(NSString*)domain code:(NSInteger)code userInfo:(NSDictionary*)information {
  NSError* error = [[self alloc] init];
  error->_domain = [domain copy];
  error->_code = code;
  error->_userInfo = information == nil ? [@{} retain] : [information copy];
  return [error autorelease];
}
- (NSString*)domain {
  return _domain;
}
- (NSInteger)code {
  return _code;
}
- (NSDictionary*)userInfo {
  return _userInfo;
}
- (NSString*)localizedFailureReason {
  return _userInfo[NSLocalizedFailureReasonErrorKey];
}
- (NSString*)localizedDescription {
  if (NSString* text = _userInfo[NSLocalizedDescriptionKey]) return text;
  NSString* failure = _userInfo[NSLocalizedFailureErrorKey];
  NSString* reason = self.localizedFailureReason;
  if (failure != nil && reason != nil) return [NSString stringWithFormat:@"%@ %@", failure, reason];
  if (failure != nil || reason != nil) return failure != nil ? failure : reason;
  return [NSString stringWithFormat:@"The operation couldn’t be completed. (%@ error %ld.)", _domain, _code];
}
- (NSString*)description {
  return [NSString stringWithFormat:@"Error Domain=%@ Code=%ld \"%@\"", _domain, _code, self.localizedDescription];
}
- (void)dealloc {
  [_domain release];
  [_userInfo release];
  [super dealloc];
}
@end

@implementation NSException {
  NSString* _name;
  NSString* _reason;
}
+ (void)raise:(NSString*)name format:(NSString*)format, ... {
  va_list arguments;
  va_start(arguments, format);
  std::string reason = mayfly::facsimile::Formatted(format, arguments);
  va_end(arguments);
  NSException* exception = [[[self alloc] init] autorelease];
  exception->_name = [name copy];
  exception->_reason = [[NSString stringWithUTF8String:reason.c_str()] retain];
  @throw exception;
}
- (NSString*)name {
  return _name;
}
- (NSString*)reason {
  return _reason;
}
- (void)dealloc {
  [_name release];
  [_reason release];
  [super dealloc];
}
@end
