// The guest's first serial port, where somebody speaks with it besides the console's log.
//
// Cloud Hypervisor gives the port to one: a file, a pseudo-terminal, or a client of a socket. So it gets a terminal as
// its standard streams, and at the other end of that stands this relay: what the guest writes goes to the console's
// log, always and whole, and to whoever has opened the pseudo-terminal or connected to the socket; what these write
// goes to the guest.
//
//   SerialRelay relay(SerialKind::kPty, {.log = console_path(), .socket = {}});
//   sandbox.Start({.argv = vmm, .stdin_path = relay.vmm_terminal(), .stdout_path = relay.vmm_terminal()});
//   relay.place()                                                      // "/dev/pts/7": where people speak with the
//   guest
//
// A reader that does not read holds nobody up: of what it has not taken, it gets the last 64 KiB.
//
// Works on the I/O thread. Lives as long as this object.
#pragma once

#include <mayfly/spec.h>

#include <filesystem>
#include <memory>
#include <string>

namespace mayfly::ch {

class SerialRelay {
 public:
  struct Options {
    std::filesystem::path log{};
    std::filesystem::path socket{};  // of kSocket
  };
  // `kind`: kPty or kSocket. Throws HostLacks.
  SerialRelay(SerialKind kind, const Options& options);
  ~SerialRelay();
  SerialRelay(const SerialRelay&) = delete;
  SerialRelay& operator=(const SerialRelay&) = delete;

  const std::filesystem::path& vmm_terminal() const { return vmm_terminal_; }
  const std::string& place() const { return place_; }

 private:
  class Wire;

  std::filesystem::path vmm_terminal_;
  std::string place_;
  std::shared_ptr<Wire> wire_;
};

}  // namespace mayfly::ch
