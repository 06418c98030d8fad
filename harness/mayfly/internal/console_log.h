// The console of a guest as it is written.
//
// Follows the file that a VMM appends the guest's serial output to, by inotify and never by polling. Lines are reported
// as they are completed; waits block until the text is there:
//
//   ConsoleLog console(path, [](std::string_view line) { … });   // on the I/O thread
//   console.WaitFor("login:", Deadline::After(5s));
//
// A guest may print without end: only the last `kKept` bytes stay on the disk, and only kMaxLine bytes of a line are
// seen.
//
// Thread-safe, except the destructor; callbacks come on the I/O thread and none comes after the destructor has
// returned.
#pragma once

#include <mayfly/deadline.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace mayfly::internal {

class ConsoleLog {
 public:
  static constexpr size_t kKept = size_t{16} << 20;
  static constexpr size_t kMaxLine = 4096;

  // Makes the file when there is none. Throws HostLacks when it cannot be made or watched.
  ConsoleLog(const std::filesystem::path& path, std::function<void(std::string_view line)> on_line);
  ~ConsoleLog();

  // From now on WaitFor looks only at what is written later.
  void BeginBoot();
  // Blocks until this boot's output contains `text` (at most kMaxLine bytes). False when the deadline passes.
  bool WaitFor(std::string_view text, Deadline deadline);

  // The last `lines` lines, without escape sequences and carriage returns, each at most 200 bytes.
  std::string Tail(size_t lines) const;
  // Everything that is kept.
  std::string Text() const;

 private:
  class Follower;
  std::shared_ptr<Follower> follower_;
};

}  // namespace mayfly::internal
