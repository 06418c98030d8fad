// mayflyd's log: one JSON object a line, so that both people and programs read it.
//
//   log.Write("lease-opened", {{"lease", 3}, {"peer", 4242}});
//   {"at":"2026-11-24T03:20:11.042Z","event":"lease-opened","lease":3,"peer":4242}
//
// When it has grown to kMaxSize it is renamed to NAME.1, over an older one. Thread-safe; a log that cannot be written
// is never a reason to fail.
#pragma once

#include <mayfly/internal/unique_fd.h>

#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>

namespace mayfly::internal {

class EventLog {
 public:
  static constexpr size_t kMaxSize = size_t{4} << 20;

  EventLog() = default;  // writes nowhere
  explicit EventLog(std::filesystem::path path);

  void Write(std::string_view event, const nlohmann::json& members = nlohmann::json::object());

 private:
  void Open();

  std::filesystem::path path_;
  std::mutex mutex_;
  UniqueFd file_;
  size_t size_ = 0;
};

}  // namespace mayfly::internal
