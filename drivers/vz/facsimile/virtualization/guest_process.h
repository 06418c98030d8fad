// The QEMU process behind a virtual machine of the facsimile.
//
//   GuestProcess guest(hardware, {.ended = [](GuestEnd end) { … }});
//   guest.Execute("stop", {}, [](const std::string& error) { … });          // error: empty when it was done
//
// It dies with this process. Handlers run on a thread of the guest's own; `ended` is the last of them and comes once,
// after the commands under way have been told that the guest is gone. None runs after the destructor has returned.
#pragma once

#include <mayfly/internal/process.h>
#include <mayfly/internal/unique_fd.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "drivers/vz/facsimile/virtualization/guest_hardware.h"

namespace mayfly::facsimile {

inline constexpr const char* kGuestProgram = "qemu-system-x86_64";

enum class GuestEnd {
  kPoweredOff,  // by the guest
  kOther,       // killed, or by itself
};

class GuestProcess {
 public:
  using Done = std::function<void(const std::string& error)>;

  // Throws Error when QEMU, or the server of a share, cannot be started. Whether QEMU takes the machine is known when
  // the first command is done.
  GuestProcess(const GuestHardware& hardware, std::function<void(GuestEnd end)> ended);
  ~GuestProcess();
  GuestProcess(const GuestProcess&) = delete;
  GuestProcess& operator=(const GuestProcess&) = delete;

  // Any thread.
  void Execute(const std::string& command, const nlohmann::json& arguments, Done done);
  // At once; `ended` follows.
  void Kill();

 private:
  void Read();
  void Take(const nlohmann::json& message);
  Done NextWaiting();

  internal::UniqueFd control_;
  std::unique_ptr<internal::Process> process_;
  const std::function<void(GuestEnd)> ended_;
  bool powered_off_ = false;  // on the reader's thread
  std::mutex mutex_;
  std::deque<Done> waiting_;  // guarded by mutex_: commands are answered in their order
  bool gone_ = false;         // guarded by mutex_
  std::thread reader_;
};

}  // namespace mayfly::facsimile
