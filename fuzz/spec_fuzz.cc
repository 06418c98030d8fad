// Any bytes are either a spec or refused with BadSpec; a spec that was read comes back from its JSON, with the same
// hash.
#include <mayfly/errors.h>
#include <mayfly/spec.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  mayfly::MachineSpec spec;
  try {
    spec = mayfly::SpecFromJson(text, "fuzz.json");
  } catch (const mayfly::BadSpec&) {
    return 0;
  }
  mayfly::MachineSpec again = mayfly::SpecFromJson(mayfly::ToJson(spec), "again.json");
  if (again != spec || mayfly::CanonicalHash(again) != mayfly::CanonicalHash(spec)) std::abort();
  return 0;
}
