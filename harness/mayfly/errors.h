// What mayfly throws.
//
// Every error is an `Error`, with a class that says whose fault it is and a text that names the VM, the phase, the
// cause and what to do next:
//
//   mayfly: cannot boot 'kv-7f3a' (qemu, microvm): the guest panicked after 0.84 s, before it was ready
//     console: Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(254,0)
//     the spec has a root disk but the kernel has no ext4; use image 'tiny-disk'
//
// | class | meaning | whose fault |
// | --- | --- | --- |
// | BadSpec | a spec, option, file or variable has a value that is not allowed | the caller's |
// | Unsupported | the backend cannot do what was asked, on any host | the caller's |
// | HostLacks | this host has not what is needed (program, privilege, memory, file) | the host's |
// | BootFailed | the guest did not become ready | the guest's |
// | GuestFailed | a command or file operation in a ready guest failed | the guest's |
// | Timeout | something did not happen within its time | unknown |
// | VmmDied | the virtual machine monitor ended when it should not have | the VMM's |
//
// Errors are values: copyable, with no reference to the VM that they tell of. Who knows more catches by reference, adds
// it and throws on: `catch (Error& error) { error.AddNote("console: …"); throw; }`
#pragma once

#include <mayfly/capability.h>

#include <exception>
#include <string>
#include <vector>

namespace mayfly {

// The parts of an error's text. Empty parts are left out.
struct ErrorText {
  std::string summary{};             // one line, without a full stop: what could not be done and why
  std::vector<std::string> notes{};  // facts that explain it: a console line, QEMU's last words, the probe's reason
  std::string next_step{};           // what the reader can do now
};

class Error : public std::exception {
 public:
  explicit Error(ErrorText text);

  // "mayfly: " and the summary, then each note and the next step on an indented line of its own.
  const char* what() const noexcept override { return what_.c_str(); }
  const ErrorText& text() const { return text_; }
  void AddNote(std::string note);

  // The name of the class, "BootFailed".
  virtual const char* kind() const noexcept { return "Error"; }

  // True when the cause is not what a test asserts but what it stands on: host, VMM or a guest that did not come up.
  // Reports mark such failures apart from assertion failures.
  virtual bool infrastructure() const noexcept { return true; }

 private:
  ErrorText text_;
  std::string what_;
};

class BadSpec : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "BadSpec"; }
  bool infrastructure() const noexcept override { return false; }
};

class HostLacks : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "HostLacks"; }
};

class BootFailed : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "BootFailed"; }
};

class GuestFailed : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "GuestFailed"; }
  bool infrastructure() const noexcept override { return false; }
};

class Timeout : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "Timeout"; }
};

class VmmDied : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "VmmDied"; }
};

// The backend has no such capability; `driver` and `reason` are for reports that compare backends.
class Unsupported : public Error {
 public:
  Unsupported(Capability capability, std::string driver, std::string reason);
  const char* kind() const noexcept override { return "Unsupported"; }
  bool infrastructure() const noexcept override { return false; }

  Capability capability() const { return capability_; }
  const std::string& driver() const { return driver_; }
  const std::string& reason() const { return reason_; }

 private:
  Capability capability_;
  std::string driver_;
  std::string reason_;
};

}  // namespace mayfly
