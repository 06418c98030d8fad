# Writes mayfly/capability.h from matrix/capabilities.json.   cmake -DINPUT=… -DOUTPUT=… -P capability_generator.cmake
#
# A script and no program, so that a cross build needs no compiler for the build host, and so that the library may use the
# enum in what reads the rest of the file. It checks what the header hangs on; `mayfly matrix check` checks everything,
# later in the build. The header is left alone when it would not change: only ids and titles are in it.
cmake_minimum_required(VERSION 3.25)
file(READ ${INPUT} json)
string(JSON count LENGTH "${json}" capabilities)
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON id GET "${json}" capabilities ${i} id)
  string(JSON group GET "${json}" capabilities ${i} group)
  string(JSON title GET "${json}" capabilities ${i} title)
  if(id IN_LIST ids)
    message(FATAL_ERROR "${INPUT}: capabilities[${i}].id: \"${id}\" stands there twice")
  endif()
  if(NOT id MATCHES "^${group}\\.[a-z0-9_]+$")
    message(FATAL_ERROR "${INPUT}: capabilities[${i}].id: \"${id}\" is not \"${group}.\" and a name in lower case")
  endif()
  list(APPEND ids ${id})
  set(name "k")
  string(REGEX REPLACE "[._]" ";" words ${id})
  foreach(word ${words})
    string(SUBSTRING ${word} 0 1 first)
    string(SUBSTRING ${word} 1 -1 rest)
    string(TOUPPER ${first} first)
    string(APPEND name ${first}${rest})
  endforeach()
  string(APPEND enumerators "  ${name},  // ${id}\n")
  string(APPEND rows "    {\"${id}\", \"${title}\"},\n")
endforeach()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT "// Generated from matrix/capabilities.json by harness/mayfly/capability_generator.cmake. Do not edit.
//
// What a virtual machine can be asked for. `ToString` gives the id that stands in the matrix, `Title` its words.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace mayfly {

enum class Capability {
${enumerators}};

namespace internal {
struct CapabilityRow {
  std::string_view id;
  std::string_view title;
};
inline constexpr std::array<CapabilityRow, ${count}> kCapabilityRows = {{
${rows}}};
}  // namespace internal

inline constexpr size_t kCapabilityCount = internal::kCapabilityRows.size();

// All capabilities in the order of the matrix.
constexpr std::array<Capability, kCapabilityCount> AllCapabilities() {
  std::array<Capability, kCapabilityCount> all{};
  for (size_t i = 0; i < kCapabilityCount; ++i) all[i] = static_cast<Capability>(i);
  return all;
}

constexpr std::string_view ToString(Capability capability) {
  return internal::kCapabilityRows[static_cast<size_t>(capability)].id;
}

constexpr std::string_view Title(Capability capability) {
  return internal::kCapabilityRows[static_cast<size_t>(capability)].title;
}

// Nothing for an unknown id.
constexpr std::optional<Capability> CapabilityFromId(std::string_view id) {
  for (Capability capability : AllCapabilities()) {
    if (ToString(capability) == id) return capability;
  }
  return std::nullopt;
}

}  // namespace mayfly
")
