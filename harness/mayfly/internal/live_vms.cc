#include <mayfly/internal/live_vms.h>

#include <mutex>
#include <utility>
#include <vector>

namespace mayfly::internal {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<LiveVm*> vms;
  std::function<void(LiveVm&, bool)> on_going;
};

Registry& Instance() {
  static auto* registry = new Registry;  // outlives VMs in static variables
  return *registry;
}

}  // namespace

void AddLiveVm(LiveVm* vm) {
  std::lock_guard lock(Instance().mutex);
  Instance().vms.push_back(vm);
}

void RemoveLiveVm(LiveVm* vm) {
  std::lock_guard lock(Instance().mutex);
  std::erase(Instance().vms, vm);
}

void ForEachLiveVm(const std::function<void(LiveVm&)>& function) {
  std::lock_guard lock(Instance().mutex);
  for (LiveVm* vm : Instance().vms) function(*vm);
}

void OnVmGoing(std::function<void(LiveVm&, bool)> function) { Instance().on_going = std::move(function); }

void NotifyVmGoing(LiveVm& vm, bool unwound) {
  if (Instance().on_going) Instance().on_going(vm, unwound);
}

}  // namespace mayfly::internal
