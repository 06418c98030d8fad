// Loaded into Cloud Hypervisor (LD_PRELOAD) where all is so slow that its TPM would be taken for dead: in an emulated
// host. Cloud Hypervisor waits 100 ms for an answer of swtpm, and has no option for that (v53.0: tpm/src/emulator.rs);
// the self-test of a TPM takes up to a second there. Receive timeouts of just that length become ten seconds; nothing
// else is changed.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>

extern "C" int setsockopt(int socket, int level, int option, const void* value, socklen_t size) noexcept {
  using Function = int (*)(int, int, int, const void*, socklen_t);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "setsockopt"));  // NOLINT: dlsym's contract
  constexpr suseconds_t kImpatience = 100'000;
  timeval timeout{};
  if (level == SOL_SOCKET && option == SO_RCVTIMEO && size == sizeof timeout) {
    std::memcpy(&timeout, value, sizeof timeout);
    if (timeout.tv_sec == 0 && timeout.tv_usec == kImpatience) {
      timeout = {.tv_sec = 10, .tv_usec = 0};
      value = &timeout;
    }
  }
  return next(socket, level, option, value, size);
}
