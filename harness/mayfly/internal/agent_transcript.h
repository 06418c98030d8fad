// agent.log of a machine: what was asked of the guest's agent and what became of it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>

namespace mayfly::internal {

// A line for each request and outcome. Writes at most 4 MiB.
class Transcript {
 public:
  explicit Transcript(const std::filesystem::path& path);
  void Line(std::string_view text);

 private:
  UniqueFd file_;
  size_t written_ = 0;
  const Clock::time_point start_ = Clock::now();
};

}  // namespace mayfly::internal
