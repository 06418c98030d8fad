// Values on the command line, read strictly: what is not understood is refused with the flag, the value and what is
// allowed.
//
//   Bytes memory = ReadSize("--memory", "512M");
//   Duration timeout = ReadDuration("--timeout", "1.5s");
//   Copy copy = ReadCopy("build:/opt/");                       // {.from = "build", .to = "/opt/"}
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/deadline.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace mayfly::cli {

Bytes ReadSize(std::string_view flag, std::string_view text);
uint32_t ReadCount(std::string_view flag, std::string_view text);

// A positive number with ms, s (or none), m or h.
Duration ReadDuration(std::string_view flag, std::string_view text);

// Something of the host to put into the guest.
struct Copy {
  std::filesystem::path from;
  std::string to;  // absolute; when it ends in '/', the copy keeps its name in that directory
};
// "HOST:GUEST", split before the last ":/". Throws BadSpec when the file cannot be read, too.
Copy ReadCopy(std::string_view text);

// "NAME=VALUE".
std::pair<std::string, std::string> ReadVariable(std::string_view text);

// A file of the host, whole; at most 16 MiB.
std::string ReadTextFile(std::string_view flag, const std::filesystem::path& path);

}  // namespace mayfly::cli
