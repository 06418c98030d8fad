// @throw, @catch and @finally, on top of C++ exceptions: both kinds pass through each other's frames.
#include <cxxabi.h>
#include <cstdlib>
#include <mutex>
#include <typeinfo>
#include <unordered_map>

#include "drivers/vz/facsimile/runtime/objc_abi.h"

using mayfly::facsimile::Class;
using mayfly::facsimile::Id;

extern "C" {
Id objc_retain(Id object);
void objc_release(Id object);
}

// The type of a thrown object, and of what a @catch takes. The compiler writes one of the second sort for each class
// that is caught: the same three words, whose first is objc_ehtype_vtable + 2.
struct MayflyThrownType : std::type_info {
  Class cls;

  MayflyThrownType(const char* name, Class thrown) : type_info(name), cls(thrown) {}
  ~MayflyThrownType() override;
  bool __is_pointer_p() const override { return true; }
  bool __do_catch(const std::type_info* thrown, void** object, unsigned outer) const override;
};

MayflyThrownType::~MayflyThrownType() = default;

bool MayflyThrownType::__do_catch(const std::type_info* thrown, void**, unsigned) const {
  const auto* type = dynamic_cast<const MayflyThrownType*>(thrown);
  if (type == nullptr) return false;
  return cls == nullptr || mayfly::facsimile::IsKindOf(type->cls, cls);
}

asm(".globl objc_ehtype_vtable\n.set objc_ehtype_vtable, _ZTV16MayflyThrownType\n");
asm(".text\n.globl __objc_personality_v0\n__objc_personality_v0: jmp __gxx_personality_v0@PLT\n");

extern "C" {

extern void* objc_ehtype_vtable[];
struct ThrownTypeWords {
  void* vtable;
  const char* name;
  Class cls;
};
// @catch (id …)
ThrownTypeWords OBJC_EHTYPE_id = {static_cast<void*>(objc_ehtype_vtable + 2), "id", nullptr};

[[noreturn]] void objc_exception_throw(Id object) {
  static auto& types = *new std::unordered_map<Class, MayflyThrownType*>;
  static auto& mutex = *new std::mutex;
  MayflyThrownType* type = nullptr;
  {
    std::lock_guard lock(mutex);
    MayflyThrownType*& known = types[object->isa];
    if (known == nullptr) known = new MayflyThrownType(object->isa->data->name, object->isa);
    type = known;
  }
  auto* thrown = static_cast<Id*>(abi::__cxa_allocate_exception(sizeof(Id)));
  *thrown = objc_retain(object);
  abi::__cxa_throw(static_cast<void*>(thrown), type, [](void* place) { objc_release(*static_cast<Id*>(place)); });
}

Id objc_begin_catch(void* exception) { return static_cast<Id>(abi::__cxa_begin_catch(exception)); }
void objc_end_catch() { abi::__cxa_end_catch(); }
[[noreturn]] void objc_exception_rethrow() { abi::__cxa_rethrow(); }
[[noreturn]] void objc_terminate() { std::abort(); }
}
