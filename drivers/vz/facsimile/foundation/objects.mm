// NSObject, strings, data, numbers, URLs and file handles. Compiled without ARC.
#include <Block.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#import "drivers/vz/facsimile/foundation/foundation.h"

@implementation NSObject
+ (instancetype)alloc {
  return class_createInstance(self, 0);
}
+ (instancetype)new {
  return [[self alloc] init];
}
+ (Class)class {
  return self;
}
- (instancetype)init {
  return self;
}
- (void)dealloc {
  object_dispose(self);
}
- (instancetype)retain {
  return objc_retain(self);
}
- (oneway void)release {
  objc_release(self);
}
- (instancetype)autorelease {
  return objc_autorelease(self);
}
- (instancetype)self {
  return self;
}
- (id)copy {
  return [(id<NSCopying>)self copyWithZone:nullptr];
}
- (Class)class {
  return object_getClass(self);
}
- (BOOL)isEqual:(id)object {
  return self == object;
}
- (NSUInteger)hash {
  return reinterpret_cast<NSUInteger>(self);
}
- (BOOL)isKindOfClass:(Class)wanted {
  for (Class cls = object_getClass(self); cls != nullptr; cls = class_getSuperclass(cls)) {
    if (cls == wanted) return YES;
  }
  return NO;
}
- (BOOL)respondsToSelector:(SEL)selector {
  return class_respondsToSelector(object_getClass(self), selector);
}
- (NSString*)description {
  return [NSString stringWithFormat:@"<%s: %p>", class_getName(object_getClass(self)), (void*)self];
}
@end

// Blocks are objects of this class; their own runtime counts them.
@interface NSBlock : NSObject
@end
@implementation NSBlock
- (id)copy {
  return (id)_Block_copy(self);
}
@end

// --- Strings ---------------------------------------------------------------------------------------------------------
namespace {

std::string Utf8Of(std::u16string_view text) {
  std::string made;
  for (size_t i = 0; i < text.size(); ++i) {
    uint32_t code = text[i];
    if (code >= 0xd800 && code < 0xdc00 && i + 1 < text.size()) {
      code = 0x10000 + ((code - 0xd800) << 10) + (text[++i] - 0xdc00);  // a pair stands for one
    }
    if (code < 0x80) {
      made += static_cast<char>(code);
      continue;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr uint32_t kFirst[] = {0, 0xc0, 0xe0, 0xf0};
    made += static_cast<char>(kFirst[more] | code >> (6 * more));
    while (more-- > 0) made += static_cast<char>(0x80 | (code >> (6 * more) & 0x3f));
  }
  return made;
}

}  // namespace

// A literal of the source: the compiler lays it out. The runtime does not count it.
@interface MayflyLiteral : NSString {
  int _flags;
  const void* _text;
  long _length;
}
@end
@implementation MayflyLiteral
// One that is not all ASCII is UTF-16.
- (const char*)UTF8String {
  constexpr int kUtf16 = 0x7d0;
  if (_flags != kUtf16) return static_cast<const char*>(_text);
  static auto& known = *new std::map<const void*, std::string>;
  static auto& mutex = *new std::mutex;
  std::lock_guard lock(mutex);
  std::string& text = known[self];
  if (text.empty()) text = Utf8Of({static_cast<const char16_t*>(_text), static_cast<size_t>(_length)});
  return text.c_str();
}
@end
asm(".globl __CFConstantStringClassReference\n.set __CFConstantStringClassReference, OBJC_CLASS_$_MayflyLiteral\n");

@interface MayflyString : NSString {
  std::string _text;
}
@end
@implementation MayflyString
- (instancetype)mayflyInitWithText:(const char*)text {
  _text = text;
  return self;
}
- (const char*)UTF8String {
  return _text.c_str();
}
@end

namespace mayfly::facsimile {

std::string Formatted(NSString* format, va_list arguments) {
  std::string text;
  va_list left;
  va_copy(left, arguments);
  const char* at = format.UTF8String;
  while (*at != '\0') {
    if (*at != '%') {
      text += *at++;
      continue;
    }
    const char* end = at + 1;
    while (*end != '\0' && std::strchr("@diouxXcsfeEgGp%", *end) == nullptr) ++end;
    std::string piece(at, *end == '\0' ? end : end + 1);
    at = *end == '\0' ? end : end + 1;
    char buffer[512];
    int size = 0;
    bool wide = piece.find('l') != std::string::npos;
    switch (piece.back()) {
      case '@': {
        id object = va_arg(left, id);
        text += object == nil ? "(null)" : [object description].UTF8String;
        break;
      }
      case 's':
        text += va_arg(left, const char*);
        break;
      case 'p':
        size = std::snprintf(buffer, sizeof buffer, piece.c_str(), va_arg(left, void*));
        break;
      case 'f':
      case 'e':
      case 'E':
      case 'g':
      case 'G':
        size = std::snprintf(buffer, sizeof buffer, piece.c_str(), va_arg(left, double));
        break;
      case '%':
        text += '%';
        break;
      default:
        size = wide ? std::snprintf(buffer, sizeof buffer, piece.c_str(), va_arg(left, long))
                    : std::snprintf(buffer, sizeof buffer, piece.c_str(), va_arg(left, int));
    }
    if (size > 0) text.append(buffer, std::min<size_t>(size, sizeof buffer - 1));
  }
  va_end(left);
  return text;
}

}  // namespace mayfly::facsimile

@implementation NSString
+ (instancetype)stringWithUTF8String:(const char*)text {
  return [[[MayflyString alloc] mayflyInitWithText:text] autorelease];
}
+ (instancetype)stringWithFormat:(NSString*)format, ... {
  va_list arguments;
  va_start(arguments, format);
  std::string text = mayfly::facsimile::Formatted(format, arguments);
  va_end(arguments);
  return [self stringWithUTF8String:text.c_str()];
}
- (const char*)UTF8String {
  return "";
}
- (NSUInteger)length {
  return std::strlen(self.UTF8String);
}
- (BOOL)isEqualToString:(NSString*)other {
  return std::strcmp(self.UTF8String, other.UTF8String) == 0;
}
- (BOOL)isEqual:(id)object {
  return [object isKindOfClass:[NSString class]] && [self isEqualToString:object];
}
- (NSUInteger)hash {
  return std::hash<std::string_view>()(self.UTF8String);
}
- (NSString*)description {
  return self;
}
- (id)copyWithZone:(void*)zone {
  return [self retain];
}
@end

// --- Values -------------------------------------------------------------------------------------------------------
@implementation NSData {
  std::vector<unsigned char> _content;
}
+ (instancetype)dataWithBytes:(const void*)bytes length:(NSUInteger)length {
  NSData* data = [[self alloc] init];
  const auto* begin = static_cast<const unsigned char*>(bytes);
  data->_content.assign(begin, begin + length);
  return [data autorelease];
}
- (const void*)bytes {
  return _content.data();
}
- (NSUInteger)length {
  return _content.size();
}
- (BOOL)isEqual:(id)object {
  return [object isKindOfClass:[NSData class]] && static_cast<NSData*>(object)->_content == _content;
}
- (id)copyWithZone:(void*)zone {
  return [self retain];
}
@end

@implementation NSNumber {
  long long _value;
}
+ (NSNumber*)numberWithLongLong:(long long)value {
  NSNumber* number = [[self alloc] init];
  number->_value = value;
  return [number autorelease];
}
- (long long)longLongValue {
  return _value;
}
- (NSString*)description {
  return [NSString stringWithFormat:@"%lld", _value];
}
- (id)copyWithZone:(void*)zone {
  return [self retain];
}
@end

@implementation NSURL {
  NSString* _path;
}
+ (instancetype)fileURLWithPath:(NSString*)path {
  NSURL* url = [[self alloc] init];
  url->_path = [path copy];
  return [url autorelease];
}
- (NSString*)path {
  return _path;
}
- (id)copyWithZone:(void*)zone {
  return [self retain];
}
- (NSString*)description {
  return [NSString stringWithFormat:@"file://%@", _path];
}
- (void)dealloc {
  [_path release];
  [super dealloc];
}
@end

@implementation NSFileHandle {
  int _descriptor;
  BOOL _closes;
}
- (instancetype)initWithFileDescriptor:(int)descriptor closeOnDealloc:(BOOL)closes {
  _descriptor = descriptor;
  _closes = closes;
  return self;
}
- (int)fileDescriptor {
  return _descriptor;
}
- (void)dealloc {
  if (_closes) close(_descriptor);
  [super dealloc];
}
@end
