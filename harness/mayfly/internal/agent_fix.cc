#include <mayfly/internal/agent_fix.h>

#include <sys/random.h>

#include <chrono>

namespace mayfly::internal {

std::string AddFix(agent::MessageWriter& message, const GuestIdentity& identity) {
  constexpr size_t kEntropyBytes = 256;
  std::string random(kEntropyBytes, '\0');
  // The kernel gives 256 bytes at once, once it has any.
  while (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
  }
  std::string macs;
  for (const auto& [from, to] : identity.macs) macs.append(from).append(" ").append(to).append("\n");
  message.Set("hostname", std::string_view(identity.hostname)).Set("machine", std::string_view(identity.machine_id));
  message.Set("macs", std::string_view(macs));
  auto now = std::chrono::system_clock::now().time_since_epoch();
  message.Set("time", int64_t{std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()});
  return random;
}

}  // namespace mayfly::internal
