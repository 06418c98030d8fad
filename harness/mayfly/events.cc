
#include <mayfly/events.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mayfly {

void Timeline::Add(std::string source, std::string name, std::string detail) {
  Event event{Clock::now() - start_, std::move(source), std::move(name), std::move(detail)};
  std::vector<Subscription> called;
  {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
    std::erase_if(subscribers_, [](const auto& weak) { return weak.expired(); });
    for (const auto& weak : subscribers_) {
      if (auto callback = weak.lock()) called.push_back(std::move(callback));
    }
  }
  changed_.notify_all();
  for (const Subscription& callback : called) (*callback)(event);
}

std::vector<Event> Timeline::Events() const {
  std::lock_guard lock(mutex_);
  return events_;
}

size_t Timeline::size() const {
  std::lock_guard lock(mutex_);
  return events_.size();
}

std::optional<Event> Timeline::WaitFor(const std::function<bool(const Event&)>& matches, Deadline deadline,
                                       size_t from) const {
  std::unique_lock lock(mutex_);
  while (true) {
    for (; from < events_.size(); ++from) {
      if (matches(events_[from])) return events_[from];
    }
    if (deadline.Passed()) return std::nullopt;
    changed_.wait_until(lock, deadline.time());
  }
}

Timeline::Subscription Timeline::Subscribe(std::function<void(const Event&)> callback) {
  auto handle = std::make_shared<const std::function<void(const Event&)>>(std::move(callback));
  std::lock_guard lock(mutex_);
  subscribers_.push_back(handle);
  return handle;
}

std::string Timeline::ToJson() const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Event& event : Events()) {
    list.push_back({{"seconds", std::chrono::duration<double>(event.at).count()},
                    {"source", event.source},
                    {"event", event.name},
                    {"detail", event.detail}});
  }
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace mayfly
