#include "bench/guest.h"

#include <optional>

#include "bench/ssh_guest.h"

namespace mayfly::bench {
namespace {

std::optional<Vm>& Shared() {
  static std::optional<Vm> vm;
  return vm;
}

}  // namespace

Vm& Guest() {
  // /tmp is memory, half of it at most: room for the files that are copied.
  if (!Shared()) Shared() = Vm::Boot({.memory = Bytes(512 << 20), .image = "tiny"});
  return *Shared();
}

void ReleaseGuest() {
  ReleaseSshServer();
  Shared().reset();
}

}  // namespace mayfly::bench
