#include "drivers/vz/helper_process.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/log_tail.h>

#include <csignal>
#include <utility>

#include "drivers/vz/protocol.h"

namespace mayfly::vz {
namespace {

using internal::UniqueFd;
using nlohmann::json;

[[noreturn]] void ThrowTold(const json& error) {
  ErrorText text{.summary = error.value("summary", "mayfly-vz refuses it"),
                 .notes = error.value("notes", std::vector<std::string>()),
                 .next_step = error.value("next_step", "")};
  std::string kind = error.value("class", "");
  if (kind == "BadSpec") throw BadSpec(std::move(text));
  if (kind == "HostLacks") throw HostLacks(std::move(text));
  throw VmmDied(std::move(text));
}

}  // namespace

HelperProcess::HelperProcess(const Sandbox& sandbox, Options options)
    : options_(std::move(options)), log_begin_(internal::SizeOfFile(options_.log)) {
  auto [ours, theirs] = internal::SocketPair();
  control_ = std::make_unique<internal::MessageSocket>(std::move(ours));
  child_ = sandbox.Start({.argv = {options_.program.string(), "serve"},
                          .stdout_path = options_.log,
                          .stderr_path = options_.log,
                          .inherit = {{theirs.get(), kControlDescriptor}},
                          .working_directory = sandbox.directory(),
                          .grace = Duration::zero()});
  theirs.Reset();
  reader_ = std::thread([this] { Read(); });
}

HelperProcess::~HelperProcess() {
  child_->Kill();
  reader_.join();
}

json HelperProcess::Call(const std::string& operation, json body, const std::vector<UniqueFd>& descriptors,
                         Deadline deadline) {
  std::unique_lock lock(mutex_);
  const uint64_t id = ++last_id_;
  under_way_[id] = std::nullopt;
  lock.unlock();
  body["op"] = operation;
  body["id"] = id;
  std::vector<int> numbers;
  for (const UniqueFd& descriptor : descriptors) numbers.push_back(descriptor.get());
  try {
    std::lock_guard one_at_a_time(sending_);
    control_->Send(body, numbers, deadline);
  } catch (const internal::PeerGone&) {
    // It is told below how the helper ended.
  }
  lock.lock();
  auto done = [&] { return gone_ || under_way_[id].has_value(); };
  bool in_time = true;
  while (!done() && in_time) in_time = changed_.wait_until(lock, deadline.time()) == std::cv_status::no_timeout;
  std::optional<json> answer = std::move(under_way_[id]);
  under_way_.erase(id);
  lock.unlock();
  if (answer && answer->contains("error")) ThrowTold(answer->at("error"));
  if (answer) return answer->value("result", json::object());
  if (in_time) throw VmmDied({.summary = fmt::format("mayfly-vz ended before it had answered '{}'", operation)});
  throw Timeout({.summary = fmt::format("mayfly-vz did not answer '{}' in time", operation)});
}

void HelperProcess::Kill() {
  child_->Kill();
  WaitForExit(Deadline::Never());
}

bool HelperProcess::WaitForExit(Deadline deadline) {
  std::unique_lock lock(mutex_);
  while (!over_) {
    if (deadline.Passed()) return false;
    changed_.wait_until(lock, deadline.time());
  }
  return true;
}

std::vector<std::string> HelperProcess::LastWords() const { return internal::LastLines(options_.log, log_begin_); }

// --- On the reader's thread ---------------------------------------------------------------------------------------
void HelperProcess::Take(const json& message) {
  if (message.contains("event")) {
    if (message["event"] == "hello" && message.value("protocol", 0) != kProtocolVersion) {
      throw HostLacks({.summary = fmt::format("it speaks protocol {}, wanted is {}", message.value("protocol", 0),
                                              kProtocolVersion)});
    }
    if (options_.on_event) options_.on_event(message);
    return;
  }
  std::lock_guard lock(mutex_);
  auto waiting = under_way_.find(message.value("id", uint64_t{0}));
  if (waiting != under_way_.end()) waiting->second = message;
  changed_.notify_all();
}

// What was wrong, if anything was.
std::string HelperProcess::ReadUntilTheEnd() {
  try {
    while (auto message = control_->Receive(Deadline::Never())) Take(message->body);
  } catch (const internal::PeerGone&) {
    return "";
  } catch (const Error& error) {
    return error.text().summary;
  } catch (const json::exception& error) {
    return error.what();
  }
  return "";
}

void HelperProcess::Read() {
  std::string trouble = ReadUntilTheEnd();
  if (!trouble.empty()) child_->Signal(SIGKILL);
  internal::ExitStatus status = child_->Wait(Deadline::Never());
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
  }
  changed_.notify_all();
  if (options_.on_exit) options_.on_exit({.status = status, .trouble = trouble, .last_words = LastWords()});
  std::lock_guard lock(mutex_);
  over_ = true;
  changed_.notify_all();
}

}  // namespace mayfly::vz
