// The terminal in front of which mayfly runs.
//
// While a RawTerminal lives, keys go to the guest as they are: Ctrl-C is a byte and no signal. The terminal is put back
// by the destructor, by RestoreTerminal (for the way of a signal, see CleanUpOnSignals) and when this process dies by a
// fault of its own; only SIGKILL leaves it raw (then: stty sane).
#pragma once

#include <cstdint>

namespace mayfly::cli {

class RawTerminal {
 public:
  // Throws HostLacks when `fd` is no terminal that can be changed. One at a time.
  explicit RawTerminal(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
};

// Puts the terminal back as it was, for the end of the process: no RawTerminal changes it any more. Does nothing when
// there is none. Thread-safe.
void RestoreTerminal() noexcept;

struct TerminalSize {
  uint16_t rows = 24;
  uint16_t columns = 80;
};
// Of the terminal `fd`; the usual size when it is none.
TerminalSize SizeOfTerminal(int fd);

}  // namespace mayfly::cli
