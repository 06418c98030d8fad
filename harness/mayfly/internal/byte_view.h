// Numbers read out of bytes that come from outside: out of range is nothing, never undefined. Little-endian hosts only.
#pragma once

#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

namespace mayfly::internal {

// The little-endian number or struct at `offset`.
template <class T>
  requires std::is_trivially_copyable_v<T>
std::optional<T> At(std::string_view bytes, size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// `size` bytes at `offset`.
inline std::optional<std::string_view> Slice(std::string_view bytes, size_t offset, size_t size) {
  if (offset > bytes.size() || bytes.size() - offset < size) return std::nullopt;
  return bytes.substr(offset, size);
}

}  // namespace mayfly::internal
