// Rules that a field of a spec can be held to. Each throws BadSpec that names the field, its value and what is allowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include <mayfly/bytes.h>
#include <mayfly/internal/spec_fault.h>

namespace mayfly::internal {

// A number from `least` to `most`.
void CheckRange(const SpecPath& path, uint64_t value, uint64_t least, uint64_t most);

// A size that is a multiple of `unit`.
void CheckMultiple(const SpecPath& path, Bytes value, Bytes unit);

// 1 to `longest` of [a-zA-Z0-9] and the characters in `also`.
void CheckWord(const SpecPath& path, std::string_view value, size_t longest, std::string_view also);

// A file that exists and can be opened for reading, for writing too where `writable`. It is no directory; `allowed`
// says what it should be.
void CheckFile(const SpecPath& path, const std::filesystem::path& file, std::string_view allowed,
               bool writable = false);

// A directory that exists and can be listed.
void CheckDirectory(const SpecPath& path, const std::filesystem::path& directory);

// A path that fits in a unix socket's address.
void CheckSocketPath(const SpecPath& path, std::string_view socket);

// "52:54:00:12:34:56": an address of one interface, which is neither a group's nor all zeros.
void CheckMac(const SpecPath& path, std::string_view mac);

// A file that a bootloader or VMM can start as a Linux kernel: bzImage, ELF or arm64 Image.
void CheckKernel(const SpecPath& path, const std::filesystem::path& file);

// Values that may be there once.
class UniqueValues {
 public:
  // Refuses a value that was added before and names the field that has it.
  void Add(const SpecPath& path, std::string value);

 private:
  std::map<std::string, std::string> field_of_;
};

}  // namespace mayfly::internal
