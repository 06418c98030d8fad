// TAP devices: the host's end of a NIC is an interface of the host's kernel.
//
//   Tap tap = MakeTap();                    // a new one, in a user and a network namespace of its own: no rights
//   needed Tap theirs = OpenTap("tap3");           // one that somebody made for this user, in this process's namespace
//   // the VMM gets tap.descriptor
//   std::vector<std::string> words = WordsToEnter(tap);     // followed by: ip address show tap0
//
// A new device is up and goes, with its namespaces, when the last descriptor is closed.
#pragma once

#include <mayfly/internal/unique_fd.h>

#include <optional>
#include <string>
#include <vector>

namespace mayfly::internal {

struct Tap {
  std::string device{};
  UniqueFd descriptor{};  // of one queue, without header; what reads it has the frames
  UniqueFd user{};        // the namespaces in which the device is; none: this process's
  UniqueFd network{};
};

// Throws HostLacks where processes may not make namespaces, or there is no /dev/net/tun.
Tap MakeTap();
// Throws HostLacks when this user may not have it, or another VM has it.
Tap OpenTap(const std::string& device);

// The words that begin a command in the device's namespaces, while this process has the Tap; none: they are its own.
std::vector<std::string> WordsToEnter(const Tap& tap);

// Why MakeTap cannot make the namespaces here; nothing: it can.
std::optional<std::string> WhyNoNamespaces();

}  // namespace mayfly::internal
