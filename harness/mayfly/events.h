// What happened to a VM, and when.
//
// Every Machine has a Timeline: an append-only list of events with the time since the VM was created. Waiting for an
// event is how mayfly waits for anything: `timeline.WaitFor(…)` blocks until an event arrives, never by polling.
//
//   vm.machine().timeline().Add("qemu", "RESET", "guest-reset");
//   for (const Event& event : timeline.Events()) …
//
// Thread-safe.
#pragma once

#include <mayfly/deadline.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace mayfly {

struct Event {
  Duration at{};         // since the timeline began
  std::string source{};  // "mayfly", "agent", or the driver's name
  std::string name{};    // "state", "RESET", "hello"
  std::string detail{};  // one line for people
};

class Timeline {
 public:
  Timeline() : start_(Clock::now()) {}

  void Add(std::string source, std::string name, std::string detail = {});

  // All events so far.
  std::vector<Event> Events() const;
  size_t size() const;

  // The first event at or after position `from` that `matches`, waited for until `deadline`; nothing when it passes.
  std::optional<Event> WaitFor(const std::function<bool(const Event&)>& matches, Deadline deadline,
                               size_t from = 0) const;

  // Called for each later event on the thread that adds it, outside the timeline's lock. Until the returned handle
  // goes.
  using Subscription = std::shared_ptr<const std::function<void(const Event&)>>;
  [[nodiscard]] Subscription Subscribe(std::function<void(const Event&)> callback);

  // One JSON array, an object an event, for artefacts.
  std::string ToJson() const;

 private:
  const Clock::time_point start_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<Event> events_;
  std::vector<std::weak_ptr<const std::function<void(const Event&)>>> subscribers_;
};

}  // namespace mayfly
