#include "daemon/event_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <utility>

namespace mayfly::internal {
namespace {

std::string Now() {
  auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  auto milliseconds = now.time_since_epoch().count() % 1000;
  return fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds);
}

}  // namespace

EventLog::EventLog(std::filesystem::path path) : path_(std::move(path)) { Open(); }

void EventLog::Open() {
  file_.Reset(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat status{};
  size_ = file_ && fstat(file_.get(), &status) == 0 ? static_cast<size_t>(status.st_size) : 0;
}

void EventLog::Write(std::string_view event, const nlohmann::json& members) {
  std::lock_guard lock(mutex_);
  if (!file_) return;
  nlohmann::ordered_json line = {{"at", Now()}, {"event", std::string(event)}};
  line.update(members);
  std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (size_ + text.size() > kMaxSize) {
    std::error_code ignored;
    std::filesystem::rename(path_, path_.string() + ".1", ignored);
    Open();
  }
  ssize_t written = write(file_.get(), text.data(), text.size());
  if (written > 0) size_ += static_cast<size_t>(written);
}

}  // namespace mayfly::internal
