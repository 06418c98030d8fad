#include "cli/pool_watch.h"

#include <mayfly/errors.h>
#include <mayfly/sandbox.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

namespace mayfly::cli {
namespace {

using internal::FoundPool;
using internal::PoolState;

constexpr auto kAnswerTime = std::chrono::seconds(5);

void AskForOtherThan(FoundPool& pool, uint64_t seen) {
  pool.connection->socket().Send({{"op", "watch"}, {"seen", seen}}, Deadline::After(Scaled(kAnswerTime)));
}

// Its answer to the question that AskForOtherThan asked. Throws.
nlohmann::json Answer(FoundPool& pool) {
  auto reply = pool.connection->socket().Receive(Deadline::After(Scaled(kAnswerTime)));
  if (!reply || reply->body.contains("error")) throw internal::PeerGone({.summary = "it has left"});
  AskForOtherThan(pool, reply->body.value("change", uint64_t{0}));
  return std::move(reply->body);
}

}  // namespace

PoolWatch::PoolWatch() : files_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  std::filesystem::path runtime = RuntimeDirectory();
  if (!files_ || inotify_add_watch(files_.get(), runtime.c_str(), IN_CREATE | IN_MODIFY | IN_MOVED_TO) < 0) {
    throw HostLacks({.summary = "cannot watch " + runtime.string() + ": " + std::generic_category().message(errno),
                     .next_step = "raise fs.inotify.max_user_instances, or end programs that watch files"});
  }
  Look();
}

bool PoolWatch::Look() {
  bool found_any = false;
  for (FoundPool& found : internal::FindPools()) {
    bool known = std::any_of(pools_.begin(), pools_.end(), [&](const Pool& pool) {
      return pool.found.files.name == found.files.name && pool.found.state == PoolState::kRuns;
    });
    if (known || found.state == PoolState::kGone) continue;
    std::erase_if(pools_, [&](const Pool& pool) { return pool.found.files.name == found.files.name; });
    Pool pool{.found = std::move(found)};
    if (pool.found.state == PoolState::kRuns) {
      try {
        AskForOtherThan(pool.found, 0);
        pool.status = Answer(pool.found);
        pool.told_at = Clock::now();
      } catch (const Timeout& error) {
        pool.found.state = PoolState::kSilent;
        pool.found.trouble = error.text().summary;
      } catch (const Error&) {
        continue;  // it has just left
      }
    }
    pools_.push_back(std::move(pool));
    found_any = true;
  }
  return found_any;
}

// Whether files of a daemon changed that is not connected: it may have just begun to listen.
bool PoolWatch::NewsOfOthers() {
  bool others = false;
  alignas(inotify_event) std::array<char, 4096> buffer{};
  while (true) {
    ssize_t count = read(files_.get(), buffer.data(), buffer.size());
    if (count <= 0) return others;
    for (const char* at = buffer.data(); at < buffer.data() + count;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      at += sizeof(inotify_event) + event->len;
      std::string_view name = event->len > 0 ? event->name : "";
      bool known = std::any_of(pools_.begin(), pools_.end(), [&](const Pool& pool) {
        return pool.found.state == PoolState::kRuns && name.starts_with(pool.found.files.name);
      });
      others |= name.starts_with("pool-") && !known;
    }
  }
}

bool PoolWatch::ReadAnswers(const std::vector<int>& ready) {
  for (Pool& pool : pools_) {
    if (pool.found.state != PoolState::kRuns) continue;
    if (std::find(ready.begin(), ready.end(), pool.found.connection->socket().fd()) == ready.end()) continue;
    try {
      pool.status = Answer(pool.found);
      pool.told_at = Clock::now();
    } catch (const Error&) {
      pool.found.state = PoolState::kGone;
    }
  }
  std::erase_if(pools_, [](const Pool& pool) { return pool.found.state == PoolState::kGone; });
  return !ready.empty();
}

bool PoolWatch::Wait(Deadline deadline) {
  while (true) {
    std::vector<pollfd> waiting = {{files_.get(), POLLIN, 0}};
    for (const Pool& pool : pools_) {
      if (pool.found.state == PoolState::kRuns) waiting.push_back({pool.found.connection->socket().fd(), POLLIN, 0});
    }
    int count = poll(waiting.data(), waiting.size(), deadline.RemainingForPoll());
    if (count == 0 && deadline.Passed()) return false;
    if (count <= 0) continue;
    std::vector<int> ready;
    for (size_t i = 1; i < waiting.size(); ++i) {
      if (waiting[i].revents != 0) ready.push_back(waiting[i].fd);
    }
    bool changed = ReadAnswers(ready);
    if (waiting[0].revents != 0 && NewsOfOthers()) changed |= Look();
    if (changed) return true;
  }
}

}  // namespace mayfly::cli
