// What clang writes into an object file for Objective-C classes, for Apple's 64-bit runtime
// (-fobjc-runtime=macosx-…), as far as the facsimile reads it.
//
// The structures are the compiler's; only their names are ours. Sections objc_classlist, objc_catlist and objc_selrefs
// hold pointers to what is below.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mayfly::facsimile {

using Selector = const char*;  // interned: equal names have equal pointers
using Implementation = void (*)();

struct MethodEntry {
  Selector name;
  const char* types;
  Implementation implementation;
};

// A list of entries that follow it in memory.
struct EntryList {
  uint32_t entry_size;
  uint32_t count;
};

struct IvarEntry {
  long* offset;  // NOLINT(google-runtime-int): the compiler's type
  const char* name;
  const char* type;
  uint32_t alignment;
  uint32_t size;
};

struct ClassData {
  uint32_t flags;
  uint32_t instance_start;
  uint32_t instance_size;
  uint32_t reserved;
  const uint8_t* strong_layout;
  const char* name;
  EntryList* methods;
  void* protocols;
  EntryList* ivars;
  const uint8_t* weak_layout;
  void* properties;
};

struct ObjcClass {
  ObjcClass* isa;  // of an object: its class; of a class: its metaclass, which has the class methods
  ObjcClass* superclass;
  void* cache;
  void* vtable;
  ClassData* data;
};
using Class = ObjcClass*;

struct Category {
  const char* name;
  Class cls;
  EntryList* instance_methods;
  EntryList* class_methods;
  void* protocols;
  void* instance_properties;
  void* class_properties;
  uint32_t size;
};

struct ObjcObject {
  Class isa;
};
using Id = ObjcObject*;

// The class that the super of a method's class is looked for in, as objc_msgSendSuper2 gets it.
struct SuperCall {
  Id receiver;
  Class cls;
};

// --- What the files of the runtime have for each other ------------------------------------------------------------

Selector Intern(const char* name);
// The method of a class or the classes above it; null when there is none.
Implementation FindMethod(Class cls, Selector selector);
// The one of this class alone.
Implementation OwnMethod(Class cls, Selector selector);
// Ends the process, naming class and selector, when there is none.
Implementation RequireMethod(Class cls, Selector selector);
bool IsKindOf(Class cls, Class wanted);
bool IsBlock(Id object);
bool IsHeapBlock(Id object);
// A class, or a literal of the source: it lives as long as the program and has no count.
bool IsImmortal(Id object);

// [object selector], for methods that take nothing or objects.
template <typename... Arguments>
Id Send(Id object, const char* selector, Arguments... arguments) {
  Selector interned = Intern(selector);
  using Typed = Id (*)(Id, Selector, Arguments...);
  return reinterpret_cast<Typed>(RequireMethod(object->isa, interned))(object, interned, arguments...);
}

}  // namespace mayfly::facsimile
