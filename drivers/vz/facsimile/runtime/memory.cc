// Objects: made, counted, released; weak references; autorelease pools; properties.
//
// An object's count is the word before it. Blocks have a runtime of their own, which counts those on the heap; one on
// the stack is copied there when it is kept (objc_retainBlock), and retain and release leave it alone.
#include <Block.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "drivers/vz/facsimile/runtime/objc_abi.h"

using mayfly::facsimile::Class;
using mayfly::facsimile::Id;
using mayfly::facsimile::Selector;

namespace mayfly::facsimile {
namespace {

// Two words before an object, so that it is aligned as malloc's memory is.
struct Header {
  uint64_t unused;
  std::atomic<int64_t> count;
};

Header* HeaderOf(Id object) { return reinterpret_cast<Header*>(object) - 1; }

// Far below zero: retain and release in a dealloc method do not release the object once more.
constexpr int64_t kDying = int64_t{-1} << 40;

std::mutex& WeakMutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

// Object -> the places that refer to it weakly. Guarded by WeakMutex.
std::unordered_multimap<Id, Id*>& WeakPlaces() {
  static auto& places = *new std::unordered_multimap<Id, Id*>;
  return places;
}

void ForgetPlace(Id* place) {
  auto [begin, end] = WeakPlaces().equal_range(*place);
  for (auto at = begin; at != end; ++at) {
    if (at->second != place) continue;
    WeakPlaces().erase(at);
    return;
  }
}

// True for the last release. From then on weak references give nil.
bool DropOne(Id object) {
  if (HeaderOf(object)->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
  std::lock_guard lock(WeakMutex());
  HeaderOf(object)->count.store(kDying, std::memory_order_relaxed);
  auto [begin, end] = WeakPlaces().equal_range(object);
  for (auto at = begin; at != end; ++at) *at->second = nullptr;
  WeakPlaces().erase(object);
  return true;
}

thread_local std::vector<Id> t_pool;  // NOLINT(readability-identifier-naming)

std::recursive_mutex& PropertyMutex() {
  static auto& mutex = *new std::recursive_mutex;
  return mutex;
}

}  // namespace
}  // namespace mayfly::facsimile

namespace facsimile = mayfly::facsimile;

extern "C" {

Id objc_retain(Id object) {
  if (object == nullptr) return object;
  if (facsimile::IsHeapBlock(object)) return static_cast<Id>(_Block_copy(object));
  if (facsimile::IsBlock(object) || facsimile::IsImmortal(object)) return object;
  facsimile::HeaderOf(object)->count.fetch_add(1, std::memory_order_relaxed);
  return object;
}

void objc_release(Id object) {
  if (object == nullptr) return;
  if (facsimile::IsHeapBlock(object)) return _Block_release(object);
  if (facsimile::IsBlock(object) || facsimile::IsImmortal(object)) return;
  if (facsimile::DropOne(object)) facsimile::Send(object, "dealloc");
}

Id class_createInstance(Class cls, size_t) {
  void* memory = std::calloc(1, sizeof(facsimile::Header) + cls->data->instance_size);
  if (memory == nullptr) std::abort();
  auto* header = static_cast<facsimile::Header*>(memory);
  header->count.store(1, std::memory_order_relaxed);
  Id object = reinterpret_cast<Id>(header + 1);
  object->isa = cls;
  // Members of C++, from the root class on.
  Selector construct = facsimile::Intern(".cxx_construct");
  std::vector<facsimile::Implementation> constructors;
  for (Class each = cls; each != nullptr; each = each->superclass) {
    if (auto own = facsimile::OwnMethod(each, construct)) constructors.push_back(own);
  }
  for (auto each = constructors.rbegin(); each != constructors.rend(); ++each) {
    reinterpret_cast<Id (*)(Id, Selector)>(*each)(object, construct);
  }
  return object;
}

void object_dispose(Id object) {
  Selector destruct = facsimile::Intern(".cxx_destruct");
  for (Class each = object->isa; each != nullptr; each = each->superclass) {
    if (auto own = facsimile::OwnMethod(each, destruct)) {
      reinterpret_cast<void (*)(Id, Selector)>(own)(object, destruct);
    }
  }
  std::free(facsimile::HeaderOf(object));
}

Id objc_alloc(Id cls) { return cls == nullptr ? nullptr : facsimile::Send(cls, "alloc"); }
Id objc_alloc_init(Id cls) { return cls == nullptr ? nullptr : facsimile::Send(objc_alloc(cls), "init"); }
Id objc_opt_new(Id cls) { return objc_alloc_init(cls); }
Id objc_retainBlock(Id block) { return block == nullptr ? nullptr : static_cast<Id>(_Block_copy(block)); }

void objc_storeStrong(Id* place, Id object) {
  Id before = *place;
  if (before == object) return;
  objc_retain(object);
  *place = object;
  objc_release(before);
}

// --- Autorelease --------------------------------------------------------------------------------------------------
void* objc_autoreleasePoolPush() {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a token that nobody follows
  return reinterpret_cast<void*>(facsimile::t_pool.size() + 1);
}

void objc_autoreleasePoolPop(void* token) {
  size_t size = reinterpret_cast<size_t>(token) - 1;
  while (facsimile::t_pool.size() > size) {
    Id object = facsimile::t_pool.back();
    facsimile::t_pool.pop_back();
    objc_release(object);
  }
}

Id objc_autorelease(Id object) {
  if (object != nullptr) facsimile::t_pool.push_back(object);
  return object;
}
Id objc_autoreleaseReturnValue(Id object) { return objc_autorelease(object); }
Id objc_retainAutorelease(Id object) { return objc_autorelease(objc_retain(object)); }
Id objc_retainAutoreleaseReturnValue(Id object) { return objc_retainAutorelease(object); }
Id objc_retainAutoreleasedReturnValue(Id object) { return objc_retain(object); }
Id objc_claimAutoreleasedReturnValue(Id object) { return objc_retain(object); }
Id objc_unsafeClaimAutoreleasedReturnValue(Id object) { return object; }

// --- Weak references ----------------------------------------------------------------------------------------------
Id objc_storeWeak(Id* place, Id object) {
  std::lock_guard lock(facsimile::WeakMutex());
  if (*place != nullptr) facsimile::ForgetPlace(place);
  *place = nullptr;
  if (object == nullptr || facsimile::HeaderOf(object)->count <= 0) return nullptr;
  *place = object;
  facsimile::WeakPlaces().emplace(object, place);
  return object;
}
Id objc_initWeak(Id* place, Id object) {
  *place = nullptr;
  return objc_storeWeak(place, object);
}
void objc_destroyWeak(Id* place) { objc_storeWeak(place, nullptr); }
Id objc_loadWeakRetained(Id* place) {
  std::lock_guard lock(facsimile::WeakMutex());
  if (*place == nullptr) return nullptr;
  std::atomic<int64_t>& count = facsimile::HeaderOf(*place)->count;
  for (int64_t now = count.load(); now > 0;) {
    if (count.compare_exchange_weak(now, now + 1)) return *place;
  }
  return nullptr;  // on its way out
}
Id objc_loadWeak(Id* place) { return objc_autorelease(objc_loadWeakRetained(place)); }
void objc_copyWeak(Id* to, Id* from) {
  Id object = objc_loadWeakRetained(from);
  objc_initWeak(to, object);
  objc_release(object);
}
void objc_moveWeak(Id* to, Id* from) {
  objc_copyWeak(to, from);
  objc_destroyWeak(from);
}

// --- Properties ---------------------------------------------------------------------------------------------------
Id objc_getProperty(Id self, Selector, ptrdiff_t offset, bool) {
  std::lock_guard lock(facsimile::PropertyMutex());
  return objc_autorelease(objc_retain(*reinterpret_cast<Id*>(reinterpret_cast<char*>(self) + offset)));
}

static void SetProperty(Id self, ptrdiff_t offset, Id value, bool copy) {
  if (copy && value != nullptr) {
    value = facsimile::Send(value, "copy");
  } else {
    value = objc_retain(value);
  }
  Id before;
  {
    std::lock_guard lock(facsimile::PropertyMutex());
    Id* place = reinterpret_cast<Id*>(reinterpret_cast<char*>(self) + offset);
    before = *place;
    *place = value;
  }
  objc_release(before);
}
void objc_setProperty_atomic(Id self, Selector, Id value, ptrdiff_t offset) { SetProperty(self, offset, value, false); }
void objc_setProperty_nonatomic(Id self, Selector, Id value, ptrdiff_t offset) {
  SetProperty(self, offset, value, false);
}
void objc_setProperty_atomic_copy(Id self, Selector, Id value, ptrdiff_t offset) {
  SetProperty(self, offset, value, true);
}
void objc_setProperty_nonatomic_copy(Id self, Selector, Id value, ptrdiff_t offset) {
  SetProperty(self, offset, value, true);
}

int objc_sync_enter(Id) {
  facsimile::PropertyMutex().lock();
  return 0;
}
int objc_sync_exit(Id) {
  facsimile::PropertyMutex().unlock();
  return 0;
}
}
