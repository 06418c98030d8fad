// The VMs that this process holds now, for whoever must tell of them when something goes wrong: a test listener that
// keeps artefacts, a watchdog before it ends the process. Thread-safe.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace mayfly::internal {

// One VM; registered from its constructor to its destructor.
class LiveVm {
 public:
  virtual const std::string& Name() const = 0;
  // For people, some indented lines: its state, its last event and the end of its console. Callable from any thread.
  virtual std::string Describe() const = 0;
  // As Vm::WriteArtifacts. Callable from any thread.
  virtual void WriteArtifacts(const std::filesystem::path& directory) = 0;
  // As Vm::Freeze. Callable from any thread, while none runs a lifecycle call.
  virtual void Freeze(const std::filesystem::path& directory) = 0;

 protected:
  ~LiveVm() = default;
};

void AddLiveVm(LiveVm* vm);
void RemoveLiveVm(LiveVm* vm);

// Calls `function` for each, oldest first; none of them goes meanwhile.
void ForEachLiveVm(const std::function<void(LiveVm&)>& function);

// Sets what is called for each VM when it goes, the last moment to look at it: `unwound` says that an exception unwinds
// its scope. One for the process, set before there are VMs; called without a lock, and throws nothing.
void OnVmGoing(std::function<void(LiveVm&, bool unwound)> function);
void NotifyVmGoing(LiveVm& vm, bool unwound);

}  // namespace mayfly::internal
