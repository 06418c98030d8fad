// Classes: read from the program at its start, and asked for methods.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "drivers/vz/facsimile/runtime/objc_abi.h"

using mayfly::facsimile::Category;
using mayfly::facsimile::Class;
using mayfly::facsimile::EntryList;
using mayfly::facsimile::Id;
using mayfly::facsimile::Implementation;
using mayfly::facsimile::IvarEntry;
using mayfly::facsimile::MethodEntry;
using mayfly::facsimile::Selector;

extern "C" {
// Made by the linker, as the sections' names are C identifiers.
extern const char* __start_objc_selrefs[] __attribute__((weak));
extern const char* __stop_objc_selrefs[] __attribute__((weak));
extern Class __start_objc_classlist[] __attribute__((weak));
extern Class __stop_objc_classlist[] __attribute__((weak));
extern Category* __start_objc_catlist[] __attribute__((weak));
extern Category* __stop_objc_catlist[] __attribute__((weak));
// Of the blocks' runtime: what stands for the class of a block.
extern void* _NSConcreteStackBlock[32];
extern void* _NSConcreteMallocBlock[32];
extern void* _NSConcreteGlobalBlock[32];
void* _objc_empty_cache = nullptr;
extern mayfly::facsimile::ObjcClass LiteralClass asm("OBJC_CLASS_$_MayflyLiteral");
}

namespace mayfly::facsimile {
namespace {

struct Methods {
  std::unordered_map<Selector, Implementation> all;
  bool laid_out = false;
};

// Written before main begins, only read afterwards. Never destroyed: objects may be released at the very end.
std::unordered_map<Class, Methods>& MethodsOfClasses() {
  static auto& all = *new std::unordered_map<Class, Methods>;
  return all;
}

std::unordered_map<std::string, Class>& ClassesByName() {
  static auto& all = *new std::unordered_map<std::string, Class>;
  return all;
}

template <typename Entry>
Entry* EntriesOf(EntryList* list) {
  return reinterpret_cast<Entry*>(list + 1);
}

void AddMethods(Class cls, EntryList* list) {
  Methods& methods = MethodsOfClasses()[cls];
  if (list == nullptr) return;
  MethodEntry* entries = EntriesOf<MethodEntry>(list);
  for (uint32_t i = 0; i < list->count; ++i) {
    entries[i].name = Intern(entries[i].name);
    methods.all[entries[i].name] = entries[i].implementation;
  }
}

// Moves a class's own variables behind those of its superclass, which is larger than the compiler could see where its
// variables are declared in its implementation only.
void LayOut(Class cls) {
  Methods& methods = MethodsOfClasses()[cls];
  if (methods.laid_out) return;
  methods.laid_out = true;
  if (cls->superclass == nullptr) return;
  LayOut(cls->superclass);
  uint32_t inherited = cls->superclass->data->instance_size;
  if (cls->data->instance_start >= inherited) return;
  constexpr uint32_t kAlignment = 16;
  uint32_t by = (inherited - cls->data->instance_start + kAlignment - 1) / kAlignment * kAlignment;
  if (EntryList* list = cls->data->ivars; list != nullptr) {
    auto* ivars = EntriesOf<IvarEntry>(list);
    for (uint32_t i = 0; i < list->count; ++i) *ivars[i].offset += by;
  }
  cls->data->instance_start += by;
  cls->data->instance_size += by;
}

// Before any constructor of C++ that could send a message.
constexpr int kFirst = 101;
__attribute__((constructor(kFirst))) void ReadProgram() {
  for (const char** reference = __start_objc_selrefs; reference != __stop_objc_selrefs; ++reference) {
    *reference = Intern(*reference);
  }
  for (Class* each = __start_objc_classlist; each != __stop_objc_classlist; ++each) {
    ClassesByName()[(*each)->data->name] = *each;
    AddMethods(*each, (*each)->data->methods);
    AddMethods((*each)->isa, (*each)->isa->data->methods);
  }
  for (Class* each = __start_objc_classlist; each != __stop_objc_classlist; ++each) LayOut(*each);
  for (Category** each = __start_objc_catlist; each != __stop_objc_catlist; ++each) {
    AddMethods((*each)->cls, (*each)->instance_methods);
    AddMethods((*each)->cls->isa, (*each)->class_methods);
  }
  auto block = ClassesByName().find("NSBlock");
  if (block == ClassesByName().end()) return;
  for (void** stand_in : {_NSConcreteStackBlock, _NSConcreteMallocBlock, _NSConcreteGlobalBlock}) {
    std::memcpy(static_cast<void*>(stand_in), block->second, sizeof(ObjcClass));
    MethodsOfClasses()[reinterpret_cast<Class>(stand_in)] = MethodsOfClasses()[block->second];
  }
}

}  // namespace

Selector Intern(const char* name) {
  static auto& names = *new std::unordered_set<std::string>;
  static auto& mutex = *new std::mutex;
  std::lock_guard lock(mutex);
  return names.insert(name).first->c_str();
}

Implementation OwnMethod(Class cls, Selector selector) {
  auto methods = MethodsOfClasses().find(cls);
  if (methods == MethodsOfClasses().end()) return nullptr;
  auto found = methods->second.all.find(selector);
  return found == methods->second.all.end() ? nullptr : found->second;
}

Implementation FindMethod(Class cls, Selector selector) {
  for (; cls != nullptr; cls = cls->superclass) {
    if (Implementation own = OwnMethod(cls, selector)) return own;
  }
  return nullptr;
}

Implementation RequireMethod(Class cls, Selector selector) {
  if (Implementation found = FindMethod(cls, selector)) return found;
  std::fprintf(stderr, "unrecognized selector '%s' sent to an instance of %s\n", selector, cls->data->name);
  std::abort();
}

bool IsKindOf(Class cls, Class wanted) {
  for (; cls != nullptr; cls = cls->superclass) {
    if (cls == wanted) return true;
  }
  return false;
}

bool IsImmortal(Id object) {
  constexpr uint32_t kMetaclass = 1;
  return object->isa == &LiteralClass || (object->isa->data->flags & kMetaclass) != 0;
}

// The blocks' runtime marks the copies that it makes by a flag, and not all of them by their class.
bool IsHeapBlock(Id object) {
  struct BlockHeader {
    Class isa;
    uint32_t flags;
  };
  constexpr uint32_t kNeedsFree = uint32_t{1} << 24;
  return IsBlock(object) && (reinterpret_cast<const BlockHeader*>(object)->flags & kNeedsFree) != 0;
}

bool IsBlock(Id object) {
  const void* cls = object->isa;
  return cls == static_cast<void*>(_NSConcreteMallocBlock) || cls == static_cast<void*>(_NSConcreteStackBlock) ||
         cls == static_cast<void*>(_NSConcreteGlobalBlock);
}

}  // namespace mayfly::facsimile

// --- What compiled code and Foundation call -----------------------------------------------------------------------

namespace facsimile = mayfly::facsimile;

extern "C" {
Implementation MayflyMethodOfObject(Id object, Selector selector) {
  return facsimile::RequireMethod(object->isa, selector);
}
Implementation MayflyMethodOfSuper(const facsimile::SuperCall* call, Selector selector) {
  return facsimile::RequireMethod(call->cls->superclass, selector);
}

Selector sel_registerName(const char* name) { return facsimile::Intern(name); }
bool class_respondsToSelector(Class cls, Selector selector) { return facsimile::FindMethod(cls, selector) != nullptr; }
Class class_getSuperclass(Class cls) { return cls->superclass; }
const char* class_getName(Class cls) { return cls->data->name; }
Class object_getClass(Id object) { return object == nullptr ? nullptr : object->isa; }

Id objc_opt_self(Id object) { return object; }
Class objc_opt_class(Id object) { return object == nullptr ? nullptr : object->isa; }
bool objc_opt_respondsToSelector(Id object, Selector selector) {
  return object != nullptr && facsimile::FindMethod(object->isa, selector) != nullptr;
}
bool objc_opt_isKindOfClass(Id object, Class cls) { return object != nullptr && facsimile::IsKindOf(object->isa, cls); }
void objc_enumerationMutation(Id) {
  std::fputs("a collection was changed while it was enumerated\n", stderr);
  std::abort();
}
}

// objc_msgSend and its kin find the method and jump to it with all arguments as they came: up to six in general
// registers, eight in vector registers, and %rax, which tells how many of those a variadic call has. Sent to nil, they
// return zero in every register that a result can be in.
#if !defined(__x86_64__)
#error "the facsimile's message send is written for x86_64"
#endif
#define MAYFLY_SAVE                                                                                      \
  "push %rbp\n mov %rsp, %rbp\n sub $0xd0, %rsp\n"                                                       \
  "mov %rdi, (%rsp)\n mov %rsi, 8(%rsp)\n mov %rdx, 16(%rsp)\n mov %rcx, 24(%rsp)\n mov %r8, 32(%rsp)\n" \
  "mov %r9, 40(%rsp)\n mov %rax, 48(%rsp)\n"                                                             \
  "movups %xmm0, 64(%rsp)\n movups %xmm1, 80(%rsp)\n movups %xmm2, 96(%rsp)\n movups %xmm3, 112(%rsp)\n" \
  "movups %xmm4, 128(%rsp)\n movups %xmm5, 144(%rsp)\n movups %xmm6, 160(%rsp)\n movups %xmm7, 176(%rsp)\n"
#define MAYFLY_RESTORE                                                                                   \
  "mov %rax, %r11\n"                                                                                     \
  "mov (%rsp), %rdi\n mov 8(%rsp), %rsi\n mov 16(%rsp), %rdx\n mov 24(%rsp), %rcx\n mov 32(%rsp), %r8\n" \
  "mov 40(%rsp), %r9\n mov 48(%rsp), %rax\n"                                                             \
  "movups 64(%rsp), %xmm0\n movups 80(%rsp), %xmm1\n movups 96(%rsp), %xmm2\n movups 112(%rsp), %xmm3\n" \
  "movups 128(%rsp), %xmm4\n movups 144(%rsp), %xmm5\n movups 160(%rsp), %xmm6\n movups 176(%rsp), %xmm7\n leave\n"

asm(".text\n"
    ".globl objc_msgSend\n.type objc_msgSend, @function\n"
    "objc_msgSend:\n test %rdi, %rdi\n je 1f\n" MAYFLY_SAVE "call MayflyMethodOfObject\n" MAYFLY_RESTORE
    "jmp *%r11\n"
    "1: xor %eax, %eax\n xor %edx, %edx\n xorps %xmm0, %xmm0\n xorps %xmm1, %xmm1\n ret\n"
    ".size objc_msgSend, . - objc_msgSend\n"
    ".globl objc_msgSend_fpret\n.set objc_msgSend_fpret, objc_msgSend\n"
    // The result is a structure in memory, whose address comes first.
    ".globl objc_msgSend_stret\n.type objc_msgSend_stret, @function\n"
    "objc_msgSend_stret:\n test %rsi, %rsi\n je 2f\n" MAYFLY_SAVE
    "mov %rsi, %rdi\n mov %rdx, %rsi\n call MayflyMethodOfObject\n" MAYFLY_RESTORE
    "jmp *%r11\n"
    "2: mov %rdi, %rax\n ret\n"
    ".size objc_msgSend_stret, . - objc_msgSend_stret\n"
    // Its receiver comes in a SuperCall.
    ".globl objc_msgSendSuper2\n.type objc_msgSendSuper2, @function\n"
    "objc_msgSendSuper2:\n" MAYFLY_SAVE "call MayflyMethodOfSuper\n" MAYFLY_RESTORE
    "mov (%rdi), %rdi\n jmp *%r11\n"
    ".size objc_msgSendSuper2, . - objc_msgSendSuper2\n");
