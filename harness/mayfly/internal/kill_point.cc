#include <mayfly/internal/kill_point.h>

#ifdef MAYFLY_KILL_POINTS

#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/unique_fd.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

namespace mayfly::internal {
namespace {

struct Order {
  std::string victim{};
  std::string point{};
  std::string token{};
};

Order ReadOrder() {
  const char* given = std::getenv("MAYFLY_KILL_POINT");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string text = given != nullptr ? given : "";
  size_t at = text.find('@');
  size_t colon = text.find(':');
  if (at == std::string::npos || colon == std::string::npos || at > colon) return {};
  return {text.substr(0, at), text.substr(at + 1, colon - at - 1), text.substr(colon + 1)};
}

struct Role {
  std::string_view name;
  pid_t KillPointProcesses::* process;
};
constexpr Role kRoles[] = {
    {"test", &KillPointProcesses::test}, {"daemon", &KillPointProcesses::daemon}, {"vmm", &KillPointProcesses::vmm}};

}  // namespace

void KillPoint(KillPointName point, const KillPointProcesses& processes) {
  static const Order order = ReadOrder();
  if (order.point != point.name()) return;
  for (const Role& role : kRoles) {
    pid_t victim = processes.*role.process;
    if (role.name != order.victim || victim <= 0 || unlink(order.token.c_str()) != 0) continue;
    UniqueFd pidfd = OpenPidFd(victim);
    kill(victim, SIGKILL);
    pollfd dead{pidfd.get(), POLLIN, 0};
    poll(&dead, 1, 10'000);
  }
}

}  // namespace mayfly::internal

#endif
