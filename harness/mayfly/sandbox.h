// The private directory of one VM: sockets, logs, overlays.
//
//   Sandbox sandbox = Sandbox::Create("kv");
//   sandbox.Path("qmp.sock")         // …/mayfly/p4242-x7/kv-1/qmp.sock
//
// It is mode 0700 and is removed with its contents by the destructor, unless `Keep` was called. When the process dies
// by a signal instead, a janitor process that waits for the end of this process and of its VMMs removes it; should that
// one be killed too, the next process that makes a sandbox, or `mayfly gc`, finds it: each process holds a lock on its
// part.
//
// Place: $MAYFLY_RUNTIME_DIR, else $XDG_RUNTIME_DIR/mayfly, else $TMPDIR/mayfly-<uid>, else /tmp/mayfly-<uid> (made
// 0700 and checked to be ours). Unix socket names end at 108 bytes (104 on macOS), so a runtime directory whose path
// leaves no room for them is refused with BadSpec, which names the variable and the longest path allowed.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {
namespace internal {
class Process;
class SandboxOwner;
struct ChildOptions;
}  // namespace internal

class Sandbox {
 public:
  // Makes the directory. `name` is shortened and cleaned for use in a path. Throws BadSpec (runtime path too long or
  // not private) and HostLacks (no space, no permission).
  static Sandbox Create(std::string_view name);
  // One whose directory and processes belong to `owner`, such as mayflyd; it lives at least as long as this.
  static Sandbox OwnedBy(std::shared_ptr<internal::SandboxOwner> owner, std::filesystem::path directory);

  Sandbox(Sandbox&&) noexcept;
  Sandbox& operator=(Sandbox&&) noexcept;
  ~Sandbox();

  const std::filesystem::path& directory() const { return directory_; }
  std::filesystem::path Path(std::string_view file) const { return directory_ / file; }

  // A directory in this one, for a machine that takes the place of another; whoever owns this one owns it as well.
  // `name`: up to three characters. Throws HostLacks.
  Sandbox Inner(std::string_view name) const;

  // Starts a process of this VM, as a child of whoever owns the sandbox. Throws HostLacks when it cannot be executed.
  std::unique_ptr<internal::Process> Start(internal::ChildOptions options) const;

  // Leaves the directory where it is when this object goes.
  void Keep();

 private:
  explicit Sandbox(std::filesystem::path directory);
  void Remove() noexcept;

  std::filesystem::path directory_;
  std::shared_ptr<internal::SandboxOwner> owner_;  // none: this process
  bool keep_ = false;
};

// The directory under which all processes of this user keep their sandboxes. Throws BadSpec as Sandbox::Create does.
std::filesystem::path RuntimeDirectory();

// What dead processes, daemons among them, left in the runtime directory; removes nothing.
std::vector<std::filesystem::path> FindGarbage();

// Removes that, and returns the directories and files that it removed.
std::vector<std::filesystem::path> CollectGarbage();

// Ends every VMM that this process started and removes its sandboxes, then the process by `signal`. Installed for
// SIGINT, SIGTERM and SIGHUP, on a thread of its own, by mayfly::gtest_main and the mayfly command; call it first in a
// main() of your own. `first` runs before, with the signal's number: to restore a terminal, to say a last word. Signals
// that were ignored when it is called (nohup) stay ignored.
void CleanUpOnSignals(std::function<void(int signal)> first = {});

}  // namespace mayfly
