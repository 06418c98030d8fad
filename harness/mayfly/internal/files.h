// Reading and writing whole files of the host, with errors that name the file and what to do.
#pragma once

#include <mayfly/internal/unique_fd.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace mayfly::internal {

// Throws HostLacks: "cannot <what> <path>: <errno>". Out of space names the file system's directory and the variables
// that move mayfly's files elsewhere.
[[noreturn]] void ThrowFileError(std::string_view what, const std::filesystem::path& path, int error);

UniqueFd OpenToRead(const std::filesystem::path& file);
// Creates or truncates.
UniqueFd OpenToWrite(const std::filesystem::path& file, uint32_t mode = 0644);

// At least one byte, or 0 at the end of the file.
size_t ReadSome(const UniqueFd& fd, std::span<char> buffer, const std::filesystem::path& file);
void WriteAll(const UniqueFd& fd, std::string_view bytes, const std::filesystem::path& file);

// The whole file. Throws BadSpec when it is larger than `limit`.
std::string ReadWholeFile(const std::filesystem::path& file, uint64_t limit);
void WriteWholeFile(const std::filesystem::path& file, std::string_view bytes, uint32_t mode = 0644);

}  // namespace mayfly::internal
