#include "daemon/fork_pool.h"

#include <fmt/format.h>
#include <mayfly/agent.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/guest_identity.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/template_store.h>
#include <mayfly/snapshot.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <system_error>
#include <utility>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr auto kAnswerTime = seconds(60);
constexpr size_t kMostPerTemplate = 64;
constexpr size_t kWarmByDefault = 2;
// What a test's first command takes under software emulation. To make the next fork meanwhile would double that on a
// host of two CPUs.
constexpr auto kHeadStart = std::chrono::milliseconds(15);

// How long the host has been suspended since its boot, in nanoseconds.
int64_t Suspended() {
  timespec with{}, without{};
  clock_gettime(CLOCK_MONOTONIC, &without);
  clock_gettime(CLOCK_BOOTTIME, &with);
  return (with.tv_sec - without.tv_sec) * int64_t{1'000'000'000} + with.tv_nsec - without.tv_nsec;
}

// The two clocks are read one after the other; a lid that was closed makes more of a difference.
constexpr int64_t kSleptAtLeast = 20'000'000;

bool IsAlive(const ReadyFork& fork) {
  pollfd ended{fork.machine.vmm->pidfd(), POLLIN, 0};
  return poll(&ended, 1, 0) == 0;
}

// For people.
std::string TitleOf(const ForkKind& kind) {
  if (!kind.booted()) return kind.directory.string();
  std::string image = SpecFromJson(kind.spec, "pool request").image;
  return fmt::format("{} (booted: it cannot be copied)", image.empty() ? "vm" : image);
}

// The first process that a restored guest starts takes tens of milliseconds under software emulation, whose VMM has to
// translate the kernel's code for that again, and the second one still a millisecond more than the third. Better now
// than when a test waits for it.
void StartSomething(Agent& agent) {
  constexpr int kTimes = 2;
  try {
    for (int i = 0; i < kTimes; ++i) agent.Exec({"true"});
  } catch (const GuestFailed&) {  // a guest without such a program is ready all the same
  }
}

// Connects to the guest of a machine that runs, which becomes `copy`, if there is one, before it answers.
std::unique_ptr<Agent> Greet(Machine& machine, std::optional<GuestIdentity> copy) {
  auto agent = std::make_unique<Agent>(machine.ConnectAgent(), machine.timeline(),
                                       AgentOptions{.name = machine.name(), .transcript = {}, .copy = std::move(copy)});
  agent->WaitForHello(Deadline::After(Scaled(kAnswerTime)));
  return agent;
}

// Takes a machine whose guest is ready for who asks next.
ReadyFork Take(Machine& machine, Agent& agent) {
  MachineSpec spec = machine.spec();
  Agent::Released released = agent.Release();
  KillPoint("fork.ready", {.daemon = getpid(), .vmm = machine.Info().pid});
  return {.driver = machine.driver(),
          .spec = std::move(spec),
          .machine = machine.Release(),
          .agent = std::move(released.channel),
          .session = std::move(released.session)};
}

ForkToRestore Create(const fs::path& directory) {
  ForkToRestore fork{.in_use = TemplateStore::Use(directory), .info = ReadSnapshot(directory)};
  std::string name = fmt::format("{}-{}", fork.info.spec.name, RandomDigits(4));
  fork.machine = FindDriver(fork.info.driver).Create(SpecOfCopy(fork.info, name), Sandbox::Create(name));
  KillPoint("fork.created", {.daemon = getpid()});
  return fork;
}

// `ahead`: nobody waits for it yet, so it is also made warm.
ReadyFork Restore(ForkToRestore fork, bool ahead) {
  Machine& machine = *fork.machine;
  machine.Restore(fork.info.directory);
  KillPoint("fork.restored", {.daemon = getpid(), .vmm = machine.Info().pid});
  std::unique_ptr<Agent> agent = Greet(machine, IdentityOfCopy(fork.info, machine.spec()));
  if (ahead) StartSomething(*agent);
  ReadyFork ready = Take(machine, *agent);
  ready.ticket = std::move(fork.ticket);
  ready.in_use = std::move(fork.in_use);
  return ready;
}

ReadyFork Boot(const ForkKind& kind) {
  MachineSpec spec = SpecFromJson(kind.spec, "pool request");
  spec.name = fmt::format("{}-{}", spec.image.empty() ? "vm" : spec.image, RandomDigits(4));
  std::unique_ptr<Machine> machine = FindDriver(kind.driver).Create(spec, Sandbox::Create(spec.name));
  machine->Boot();
  std::unique_ptr<Agent> agent = Greet(*machine, std::nullopt);
  agent->FixUp({.hostname = spec.name});
  StartSomething(*agent);
  return Take(*machine, *agent);
}

ReadyFork MakeFork(const ForkKind& kind, bool ahead, Admission::Ticket ticket) {
  ReadyFork fork = kind.booted() ? Boot(kind) : Restore(Create(kind.directory), ahead);
  fork.ticket = std::move(ticket);
  fork.ticket.AddProcess(fork.machine.vmm->pid());
  return fork;
}

// One of as many at a time as the host has CPUs.
class Turn {
 public:
  explicit Turn(std::counting_semaphore<>& turns) : turns_(turns) { turns_.acquire(); }
  ~Turn() { turns_.release(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::counting_semaphore<>& turns_;
};

}  // namespace

Demand DemandOf(const ForkKind& kind) {
  MachineSpec spec = kind.booted() ? SpecFromJson(kind.spec, "pool request") : ReadSnapshot(kind.directory).spec;
  Bytes memory = std::max(spec.memory, spec.max_memory);
  auto cpus = static_cast<double>(spec.cpus);
  return kind.booted() ? DemandOfBooted(memory, cpus) : DemandOfFork(memory, cpus);
}

size_t ForksKeptReady(bool in_daemon) {
  const char* given = std::getenv("MAYFLY_POOL_WARM");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  if (given == nullptr || *given == '\0') return in_daemon ? kWarmByDefault : 0;
  char* end = nullptr;
  unsigned long count = std::strtoul(given, &end, 10);
  if (*end == '\0' && *given >= '0' && *given <= '9' && count <= kMostPerTemplate) return count;
  throw BadSpec(
      {.summary = fmt::format("MAYFLY_POOL_WARM: \"{}\" is not allowed; allowed: 0 to {}", given, kMostPerTemplate)});
}

ForkPool::ForkPool(EventLog& log, Admission& admission, size_t warm)
    : log_(log), admission_(admission), warm_(warm), restores_(std::max(1U, std::thread::hardware_concurrency())) {
  admission_.OnNeed([this](Bytes) { GiveWay(); });
  if (warm_ > 0) refill_ = std::thread([this] { Refill(); });
}

ForkPool::~ForkPool() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (refill_.joinable()) refill_.join();
}

ForkPool::Shelf& ForkPool::ShelfOf(const ForkKind& kind) {
  auto shelf = std::find_if(shelves_.begin(), shelves_.end(), [&](const Shelf& s) { return s.kind == kind; });
  if (shelf == shelves_.end()) {
    shelves_.push_front({.kind = kind, .starts_ahead = !kind.booted()});
  } else {
    shelves_.splice(shelves_.begin(), shelves_, shelf);
  }
  return shelves_.front();
}

std::optional<ReadyFork> ForkPool::TakeWarm(const ForkKind& kind) {
  std::deque<Warm> dead;  // ends outside the lock
  std::unique_lock lock(mutex_);
  ++taken_;
  Shelf& shelf = ShelfOf(kind);
  // The rest of a boot that is under way takes less than a whole one; a restore is over in no time.
  if (kind.booted() && shelf.forks.empty() && shelf.claimed < shelf.wanted) {
    ++shelf.claimed;
    changed_.wait(lock, [&] { return ending_ || !shelf.forks.empty() || shelf.wanted == 0; });
    --shelf.claimed;
  }
  std::optional<ReadyFork> found;
  while (!found && !shelf.forks.empty()) {
    Warm warm = std::move(shelf.forks.front());
    shelf.forks.pop_front();
    bool good = IsAlive(warm.fork) && Suspended() - warm.suspended < kSleptAtLeast;
    if (good) {
      found = std::move(warm.fork);
      ++hits_;
      // No longer for those that follow: a test that takes one after the other shall find some.
      if (Clock::time_point now = Clock::now(); refill_from_ <= now) refill_from_ = now + kHeadStart;
    } else {
      dead.push_back(std::move(warm));
    }
  }
  shelf.wanted = warm_ - std::min(warm_, shelf.forks.size());
  if (shelf.starts_ahead) shelf.wanted_started = warm_ - std::min(warm_, shelf.started.size());
  lock.unlock();
  if (!found) found = RestoreInStarted(kind, /*ahead=*/false);
  changed_.notify_all();
  return found;
}

ReadyFork ForkPool::Make(const ForkKind& kind, Admission::Ticket ticket) {
  Turn turn(restores_);
  return MakeFork(kind, /*ahead=*/false, std::move(ticket));
}

// Nothing when there is no such VMM, or it was of no use.
std::optional<ReadyFork> ForkPool::RestoreInStarted(const ForkKind& kind, bool ahead) {
  ForkToRestore fork;
  std::deque<ForkToRestore> dead;  // ends outside the lock
  {
    std::lock_guard lock(mutex_);
    Shelf& shelf = ShelfOf(kind);
    while (!fork.machine && !shelf.started.empty()) {
      ForkToRestore next = std::move(shelf.started.front());
      shelf.started.pop_front();
      bool waits = next.machine->status().state == MachineState::kStarting;
      waits ? void(fork = std::move(next)) : dead.push_back(std::move(next));
    }
    if (!fork.machine) return std::nullopt;
    shelf.wanted_started = warm_ - std::min(warm_, shelf.started.size());
  }
  try {
    Turn turn(restores_);
    return Restore(std::move(fork), ahead);
  } catch (const std::exception& error) {
    log_.Write("no-use-of-a-started-vmm", {{"template", TitleOf(kind)}, {"error", error.what()}});
    return std::nullopt;
  }
}

std::optional<ForkPool::ToFill> ForkPool::NextToFill() {
  for (const Shelf& shelf : shelves_) {
    if (shelf.wanted > 0) return ToFill{.kind = shelf.kind};
    if (shelf.wanted_started > 0) return ToFill{.kind = shelf.kind, .warm = false};
  }
  return std::nullopt;
}

// Takes what is too much from the templates that were used longest ago.
void ForkPool::Trim(Going& going) {
  size_t count = 0;
  auto trim = [&](auto& from, auto& to) {
    count += from.size();
    for (; count > kMostWarm && !from.empty(); --count) {
      to.push_back(std::move(from.back()));
      from.pop_back();
    }
  };
  for (Shelf& shelf : shelves_) {
    trim(shelf.forks, going.forks);
    trim(shelf.started, going.started);
  }
}

std::optional<ForkPool::Warm> ForkPool::MakeAhead(const ForkKind& kind) {
  if (auto fork = RestoreInStarted(kind, /*ahead=*/true)) {
    return Warm{.fork = std::move(*fork), .suspended = Suspended()};
  }
  Admission::Ticket ticket = admission_.TryEnterIdle(DemandOf(kind), TitleOf(kind));
  if (!ticket) {
    log_.Write("no-room-for-a-warm-fork", {{"template", TitleOf(kind)}});
    return std::nullopt;
  }
  Turn turn(restores_);
  return Warm{.fork = MakeFork(kind, /*ahead=*/true, std::move(ticket)), .suspended = Suspended()};
}

std::optional<ForkToRestore> ForkPool::StartAhead(const ForkKind& kind) {
  Admission::Ticket ticket = admission_.TryEnterIdle(DemandOf(kind), TitleOf(kind));
  if (!ticket) {
    log_.Write("no-room-for-a-started-vmm", {{"template", TitleOf(kind)}});
    return std::nullopt;
  }
  Turn turn(restores_);
  ForkToRestore fork = Create(kind.directory);
  fork.machine->PrepareRestore(fork.info.directory);
  pid_t vmm = fork.machine->Info().pid;
  if (vmm <= 0) {  // a backend that has nothing to prepare
    std::lock_guard lock(mutex_);
    ShelfOf(kind).starts_ahead = false;
    return std::nullopt;
  }
  fork.ticket = std::move(ticket);
  fork.ticket.AddProcess(vmm);
  return fork;
}

// One for a shelf. What cannot be made is not tried again before somebody asks for it and sees the error.
bool ForkPool::Fill(const ToFill& next) {
  std::optional<Warm> warm;
  std::optional<ForkToRestore> started;
  try {
    next.warm ? void(warm = MakeAhead(next.kind)) : void(started = StartAhead(next.kind));
  } catch (const std::exception& error) {
    log_.Write(next.warm ? "no-warm-fork" : "no-started-vmm",
               {{"template", TitleOf(next.kind)}, {"error", error.what()}});
  }
  Going going;
  std::lock_guard lock(mutex_);
  auto shelf = std::find_if(shelves_.begin(), shelves_.end(), [&](const Shelf& s) { return s.kind == next.kind; });
  if (shelf == shelves_.end()) return false;
  auto count_down = [](size_t& wanted, bool made) { wanted = made ? wanted - std::min<size_t>(1, wanted) : 0; };
  if (next.warm) {
    count_down(shelf->wanted, warm.has_value());
    if (warm) shelf->forks.push_back(std::move(*warm));
  } else {
    count_down(shelf->wanted_started, started.has_value());
    if (started) shelf->started.push_back(std::move(*started));
  }
  changed_.notify_all();
  Trim(going);
  return true;
}

void ForkPool::Refill() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || NextToFill(); });
    changed_.wait_until(lock, refill_from_, [&] { return ending_; });
    if (ending_) return;
    std::optional<ToFill> next = NextToFill();
    if (!next) continue;
    lock.unlock();
    if (Fill(*next)) {
      admission_.LookAgain();  // somebody may have come to wait while this one could not give way yet
      if (on_change_) on_change_();
    }
    lock.lock();
  }
}

// Asked again until it is enough.
void ForkPool::GiveWay() {
  std::optional<Warm> fork;  // these end outside the lock
  std::optional<ForkToRestore> started;
  std::lock_guard lock(mutex_);
  auto shelf = std::find_if(shelves_.rbegin(), shelves_.rend(),
                            [](const Shelf& s) { return !s.forks.empty() || !s.started.empty(); });
  if (shelf == shelves_.rend()) return;
  if (shelf->started.empty()) {
    fork = std::move(shelf->forks.back());
    shelf->forks.pop_back();
  } else {
    started = std::move(shelf->started.back());
    shelf->started.pop_back();
  }
}

nlohmann::json ForkPool::Status() const {
  std::lock_guard lock(mutex_);
  nlohmann::json templates = nlohmann::json::array();
  size_t warm = 0, started = 0;
  for (const Shelf& shelf : shelves_) {
    templates.push_back(
        {{"directory", TitleOf(shelf.kind)}, {"warm", shelf.forks.size()}, {"started", shelf.started.size()}});
    warm += shelf.forks.size();
    started += shelf.started.size();
  }
  return {{"warm", warm}, {"started", started}, {"taken", taken_}, {"hits", hits_}, {"templates", templates}};
}

}  // namespace mayfly::internal
