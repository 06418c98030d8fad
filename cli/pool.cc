// mayfly pool: the daemons that own the VMs of this user's tests.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/sandbox.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/pool_report.h"
#include "cli/pool_watch.h"

namespace mayfly::cli {
namespace {

using internal::FoundPool;
using internal::PoolState;
using internal::UniqueFd;
using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    "mayflyd owns the VMs of all tests of this user: it starts with the first test and leaves when it is idle. "
    "Processes\n"
    "whose environment differs in what concerns VMs have one of their own, side by side.\n\n"
    "Examples:\n"
    "  mayfly pool status\n"
    "  mayfly pool stop\n\n"
    "Exit codes: 0; 1 when it could not be done; 2 for a wrong command line. Each command has its own --help.";
constexpr const char* kStatusFooter =
    "FOR is how long a VM has been held, or has been waited for. Memory and CPUs that are given out include what "
    "forks\n"
    "take that are kept ready; MAYFLY_POOL_MEMORY and MAYFLY_POOL_CPUS set how much there is.\n\n"
    "Examples:\n"
    "  mayfly pool status\n"
    "  mayfly pool status --watch                                  until Ctrl-C\n"
    "  mayfly pool status --json | jq '.pools[].leases[].name'\n"
    "  mayfly pool status --json --watch | jq '.pools[].forks'     a line for each change\n\n"
    "Exit codes: 0, also when no daemon runs; 1 when one does not answer; 2 for a wrong command line.";
constexpr const char* kStopFooter =
    "VMs that are held end at once, and the tests that hold them fail. Without NAME: all daemons of this runtime "
    "directory.\n\n"
    "Examples:\n"
    "  mayfly pool stop\n"
    "  mayfly pool stop --force               also one that does not answer\n\n"
    "Exit codes: 0, also when no daemon runs; 1 when one has not ended; 2 for a wrong command line.";

constexpr auto kTimeToEnd = std::chrono::seconds(10);
constexpr std::string_view kHome = "\033[H\033[J";

struct Flags {
  std::vector<std::string> names{};
  bool json = false;
  bool watch = false;
  bool force = false;
};

struct StateWords {
  const char* word;  // in JSON
  const char* fix;
};
constexpr StateWords kStates[] = {
    // in the order of PoolState
    {"runs", ""},
    {"foreign", "it belongs to another version of mayfly; end it: mayfly pool stop"},
    {"silent", "end it: mayfly pool stop --force"},
    {"gone", ""},
};
const StateWords& WordsOf(const FoundPool& pool) { return kStates[static_cast<size_t>(pool.state)]; }

// --- status ----------------------------------------------------------------------------------------------------------

Json JsonOf(const PoolWatch::Pool& pool) {
  Json json = {{"name", pool.found.files.name},
               {"state", WordsOf(pool.found).word},
               {"pid", pool.found.pid},
               {"log", pool.found.files.log().string()}};
  if (!pool.found.trouble.empty()) json["trouble"] = pool.found.trouble;
  if (pool.status.is_object()) json.update(Json(pool.status));
  return json;
}

void PrintPool(const PoolWatch::Pool& pool, bool colour) {
  const FoundPool& found = pool.found;
  Duration age = Clock::now() - pool.told_at;
  bool runs = found.state == PoolState::kRuns;
  std::string title = runs ? fmt::format("mayflyd {}, process {}", pool.status.value("version", ""), found.pid)
                           : fmt::format("mayflyd, process {}: {}", found.pid, found.trouble);
  Print(Coloured(title, runs ? Colour::kBold : Colour::kRed, colour) + "\n");
  Print(fmt::format("  log     {}\n", found.files.log().string()));
  if (runs) Print(ReportOf(pool.status, age, colour));
  if (*WordsOf(found).fix != '\0') Print(fmt::format("  {}\n", WordsOf(found).fix));
}

// Prints what is known now. Returns the exit code for it.
int Show(const PoolWatch& watch, const Flags& flags, bool colour) {
  bool all_answer = std::all_of(watch.pools().begin(), watch.pools().end(),
                                [](const auto& pool) { return pool.found.state == PoolState::kRuns; });
  int code = all_answer ? 0 : kFailed;
  if (flags.json) {
    Json pools = Json::array();
    for (const PoolWatch::Pool& pool : watch.pools()) pools.push_back(JsonOf(pool));
    Print(Json{{"pools", std::move(pools)}}.dump(flags.watch ? -1 : 2, ' ', false, Json::error_handler_t::replace) +
          "\n");
    return code;
  }
  if (watch.pools().empty()) {
    Print(fmt::format("no mayflyd runs for {}; the first test starts one\n", RuntimeDirectory().string()));
  }
  for (const PoolWatch::Pool& pool : watch.pools()) PrintPool(pool, colour);
  return code;
}

// On a terminal, how long VMs have been held goes on between changes; the daemon is not asked for that.
Deadline UntilTheNextLook(const PoolWatch& watch, bool terminal) {
  bool ages = std::any_of(watch.pools().begin(), watch.pools().end(), [](const PoolWatch::Pool& pool) {
    return pool.found.state == PoolState::kRuns &&
           (!pool.status.at("leases").empty() || !pool.status.at("admission").at("waiting").empty());
  });
  return terminal && ages ? Deadline::After(std::chrono::seconds(1)) : Deadline::Never();
}

int Status(const Flags& flags) {
  PoolWatch watch;
  bool colour = WantsColour(STDOUT_FILENO);
  if (!flags.watch) return Show(watch, flags, colour);
  bool terminal = isatty(STDOUT_FILENO) != 0 && !flags.json;
  while (true) {
    if (terminal) Print(kHome);
    Show(watch, flags, colour);
    if (!FlushOutput()) return 0;  // nobody reads it any more; FinishOutput tells of it
    watch.Wait(UntilTheNextLook(watch, terminal));
  }
}

// --- stop ------------------------------------------------------------------------------------------------------------

void SendSignal(const UniqueFd& pidfd, int signal) { syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0); }

void AskToStop(FoundPool& pool, const UniqueFd& pidfd) {
  try {
    if (pool.state == PoolState::kRuns) {
      pool.connection->Call({{"op", "stop"}}, {}, Deadline::After(Scaled(kTimeToEnd)));
      return;
    }
  } catch (const Error&) {
    // It has left by now, or has stopped answering; a signal reaches it if it is there.
  }
  SendSignal(pidfd, SIGTERM);
}

// Whether the daemon has ended.
bool StopOne(FoundPool& pool, bool force) {
  UniqueFd pidfd = internal::OpenPidFd(pool.pid);
  if (!pidfd && errno == ESRCH) return true;
  if (!pidfd) {
    throw HostLacks({.summary = fmt::format("pool stop: cannot watch process {}: {}", pool.pid,
                                            std::generic_category().message(errno))});
  }
  if (force && pool.state == PoolState::kSilent) {
    SendSignal(pidfd, SIGKILL);
  } else {
    AskToStop(pool, pidfd);
  }
  pool.connection.reset();
  pollfd ended{pidfd.get(), POLLIN, 0};
  Deadline deadline = Deadline::After(Scaled(kTimeToEnd));
  if (poll(&ended, 1, deadline.RemainingForPoll()) == 1) return true;
  if (!force) return false;
  SendSignal(pidfd, SIGKILL);
  return poll(&ended, 1, -1) == 1;
}

std::vector<FoundPool> Chosen(const std::vector<std::string>& names) {
  std::vector<FoundPool> pools = internal::FindPools();
  for (const std::string& name : names) {
    if (std::any_of(pools.begin(), pools.end(), [&](const FoundPool& pool) { return pool.files.name == name; }))
      continue;
    throw BadSpec({.summary = fmt::format("pool stop: there is no daemon {}", internal::Quoted(name)),
                   .next_step = "see: mayfly pool status --json"});
  }
  std::erase_if(pools, [&](const FoundPool& pool) {
    bool named = names.empty() || std::find(names.begin(), names.end(), pool.files.name) != names.end();
    return !named || pool.state == PoolState::kGone;
  });
  return pools;
}

int Stop(const Flags& flags) {
  int code = 0;
  std::vector<FoundPool> pools = Chosen(flags.names);
  Json stopped = Json::array();
  for (FoundPool& pool : pools) {
    bool ended = StopOne(pool, flags.force);
    stopped.push_back({{"name", pool.files.name}, {"pid", pool.pid}, {"ended", ended}});
    if (ended && !flags.json) Print(fmt::format("mayflyd, process {}, has ended\n", pool.pid));
    if (ended) continue;
    code = kFailed;
    Complain(fmt::format("mayfly: pool stop: mayflyd, process {}, did not end within {}\n  mayfly pool stop --force",
                         pool.pid, ForPeople(Scaled(kTimeToEnd))));
  }
  if (flags.json) Print(Json{{"pools", std::move(stopped)}}.dump(2) + "\n");
  if (pools.empty() && !flags.json) Print("no mayflyd runs\n");
  return code;
}

}  // namespace

void AddPool(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& pool = *app.add_subcommand("pool", "The daemon that owns the VMs of tests: who holds what, stop");
  pool.require_subcommand(1);
  pool.footer(kFooter);
  auto add = [&](const char* name, const char* description, const char* footer,
                 int (*function)(const Flags&)) -> CLI::App& {
    CLI::App& sub = *pool.add_subcommand(name, description);
    sub.footer(footer);
    sub.callback([flags, function, &chosen] { chosen = [flags, function] { return function(*flags); }; });
    sub.add_flag("--json", flags->json, "As JSON");
    return sub;
  };
  CLI::App& status = add("status", "Who holds and waits for which VMs", kStatusFooter, Status);
  status.add_flag("-w,--watch", flags->watch, "Show it again whenever it changes");
  CLI::App& stop = add("stop", "End all VMs and the daemon", kStopFooter, Stop);
  stop.add_option("NAME", flags->names, "Daemons, by the names that status --json tells")->type_name("");
  stop.add_flag("--force", flags->force, "Kill a daemon that does not end");
}

}  // namespace mayfly::cli
