#include "daemon/admission.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/message_socket.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace mayfly::internal {
namespace {

constexpr size_t kNamedProcesses = 3;

Bytes Sum(Bytes a, Bytes b) { return a.count() > UINT64_MAX - b.count() ? Bytes(UINT64_MAX) : a + b; }
Bytes Rest(Bytes a, Bytes b) { return a - std::min(a, b); }
Bytes PartOf(Bytes whole, double share) {
  return share >= 1 ? whole : Bytes(static_cast<uint64_t>(static_cast<double>(whole.count()) * share));
}
Bytes AsideFor(const Demand& demand) { return PartOf(demand.most(), demand.share); }

constexpr double kForkShare = 0.25;
constexpr double kForkCpuShare = 1.0 / 16;

std::string CpusForPeople(double cpus) { return fmt::format("{:.3g} CPU{}", cpus, cpus == 1 ? "" : "s"); }

// All that one process holds.
struct Share {
  std::string who;
  size_t vms = 0;
  Bytes memory{};
  double cpus = 0;
};

std::vector<Share> SharesOf(const std::vector<Admission::Entry>& holders) {
  std::map<pid_t, Share> shares;
  for (const auto& [holder, demand, since, idle] : holders) {
    Share& share = shares[holder.process];
    share.who = fmt::format("{} ({})", holder.program.empty() ? "process" : holder.program, holder.process);
    ++share.vms;
    share.memory = Sum(share.memory, demand.memory);
    share.cpus += demand.cpus;
  }
  std::vector<Share> sorted;
  for (auto& [process, share] : shares) sorted.push_back(std::move(share));
  std::sort(sorted.begin(), sorted.end(),
            [](const Share& a, const Share& b) { return std::tie(a.memory, a.cpus) > std::tie(b.memory, b.cpus); });
  return sorted;
}

// "kv_test (4242) holds 3 VMs with 6 GiB" for each process.
std::vector<std::string> WhoHolds(const Admission::Notice& notice) {
  std::vector<std::string> lines;
  for (const Share& share : SharesOf(notice.holders)) {
    std::string what = notice.lacks_memory ? ForPeople(share.memory) : CpusForPeople(share.cpus);
    lines.push_back(fmt::format("{} holds {} VM{} with {}", share.who, share.vms, share.vms == 1 ? "" : "s", what));
  }
  if (lines.empty()) lines.push_back(fmt::format("other programs leave {} free", ForPeople(notice.available)));
  return lines;
}

nlohmann::json ToJson(const Admission::Entry& entry) {
  return {{"program", entry.holder.program},
          {"peer", entry.holder.process},
          {"name", entry.holder.name},
          {"memory", entry.demand.memory.count()},
          {"cpus", entry.demand.cpus},
          {"seconds", std::chrono::duration<double>(Clock::now() - entry.since).count()}};
}

std::string WhatIsLacking(const Admission::Notice& notice) {
  return notice.lacks_memory ? ForPeople(notice.demand.memory) : CpusForPeople(notice.demand.cpus);
}

}  // namespace

Bytes Demand::most() const { return Sum(memory, overhead); }

Demand DemandOfBooted(Bytes memory, double cpus) { return {.memory = memory, .overhead = kVmmOverhead, .cpus = cpus}; }

Demand DemandOfFork(Bytes memory, double cpus) {
  return {.memory = memory, .overhead = kVmmOverhead, .cpus = cpus * kForkCpuShare, .share = kForkShare};
}

std::string Admission::Notice::Text() const {
  std::vector<std::string> lines = WhoHolds(*this);
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kNamedProcesses); ++i) text += (i == 0 ? "" : ", ") + lines[i];
  if (lines.size() > kNamedProcesses) text += fmt::format(", and {} others hold more", lines.size() - kNamedProcesses);
  if (ahead > 0) text += fmt::format("; {} wait{} before it", ahead, ahead == 1 ? "s" : "");
  return fmt::format("waiting for {}: {}", WhatIsLacking(*this), text);
}

nlohmann::json Admission::Notice::ToJson() const {
  nlohmann::json held = nlohmann::json::array();
  for (const Entry& holder : holders) held.push_back(internal::ToJson(holder));
  return {{"text", Text()},
          {"lacks", lacks_memory ? "memory" : "cpus"},
          {"available", available.count()},
          {"ahead", ahead},
          {"seconds", std::chrono::duration<double>(waited).count()},
          {"holders", std::move(held)}};
}

// --- Tickets ---------------------------------------------------------------------------------------------------------

Admission::Ticket::Ticket(Ticket&& other) noexcept
    : admission_(std::exchange(other.admission_, nullptr)), id_(std::exchange(other.id_, 0)) {}

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  std::swap(admission_, other.admission_);
  std::swap(id_, other.id_);
  return *this;
}

Admission::Ticket::~Ticket() {
  if (admission_ != nullptr) admission_->Revoke(id_);
}

void Admission::Ticket::AddProcess(pid_t pid) {
  if (admission_ == nullptr) return;
  std::lock_guard lock(admission_->mutex_);
  admission_->promises_.at(id_).processes.push_back(pid);
}

void Admission::Ticket::RemoveProcess(pid_t pid) {
  if (admission_ == nullptr) return;
  std::lock_guard lock(admission_->mutex_);
  std::erase(admission_->promises_.at(id_).processes, pid);
}

void Admission::Ticket::HandOver(Holder holder) {
  std::unique_lock lock(admission_->mutex_);
  Entry& entry = admission_->promises_.at(id_).entry;
  entry.holder = std::move(holder);
  entry.since = Clock::now();
  entry.idle = false;
  admission_->Settle(std::move(lock));
}

// --- What there is ---------------------------------------------------------------------------------------------------

Admission::Admission(HostBudget budget, Times times) : budget_(std::move(budget)), times_(times) {}

void Admission::OnNeed(std::function<void(Bytes)> release) { release_ = std::move(release); }
void Admission::OnChange(std::function<void()> changed) { changed_ = std::move(changed); }

Bytes Admission::Claim::sum() const { return Sum(used, aside); }

Admission::Claim Admission::ClaimOf(const Promise& promise) const {
  Claim claim;
  for (pid_t process : promise.processes) claim.used = Sum(claim.used, budget_.PrivateMemoryOf(process));
  const Demand& demand = promise.entry.demand;
  claim.aside = PartOf(Rest(demand.most(), claim.used), demand.share);
  return claim;
}

Bytes Admission::Promised() const {
  Bytes sum;
  for (const auto& [id, promise] : promises_) sum = Sum(sum, ClaimOf(promise).sum());
  return sum;
}

Bytes Admission::Idle() const {
  Bytes sum;
  for (const auto& [id, promise] : promises_) {
    if (promise.entry.idle) sum = Sum(sum, ClaimOf(promise).sum());
  }
  return sum;
}

double Admission::PromisedCpus() const {
  double sum = 0;
  for (const auto& [id, promise] : promises_) {
    if (!promise.entry.idle) sum += promise.entry.demand.cpus;
  }
  return sum;
}

bool Admission::HasCpus(const Demand& demand) const {
  double cpus = budget_.cpus();
  return PromisedCpus() + std::min(demand.cpus, cpus) <= cpus;
}

Admission::Room Admission::RoomFor(const Demand& demand) const {
  Room room;
  room.cpus = HasCpus(demand);
  Bytes promised, unused;
  for (const auto& [id, promise] : promises_) {
    Claim claim = ClaimOf(promise);
    promised = Sum(promised, claim.sum());
    unused = Sum(unused, claim.aside);
  }
  room.available = std::min(Rest(budget_.whole(), promised), Rest(budget_.available(), unused));
  room.lacking = Rest(AsideFor(demand), room.available);
  return room;
}

bool Admission::HasRoom(const Demand& demand) const {
  if (!HasCpus(demand)) return false;
  // As long as there is plenty for all that all could take, nobody has to look how much of it each uses.
  Bytes most = AsideFor(demand);
  for (const auto& [id, promise] : promises_) most = Sum(most, promise.entry.demand.most());
  return most <= std::min(budget_.whole(), budget_.available()) || RoomFor(demand).fits();
}

void Admission::RefuseWhatNeverFits(const Demand& demand, const std::string& name) const {
  Bytes whole = budget_.whole();
  if (demand.most() <= whole) return;
  Bytes most = Bytes(Rest(whole, demand.overhead).MiB() << 20);
  throw BadSpec({.summary = fmt::format("'{}': memory: \"{}\" is more than all VMs together may have here ({}); "
                                        "allowed: up to {}",
                                        name, ToString(demand.memory), ForPeople(whole), ToString(most)),
                 .notes = {fmt::format("{} of it are for the VMM of each VM", ForPeople(demand.overhead))},
                 .next_step = "give it less, or set another budget with MAYFLY_POOL_MEMORY"});
}

bool Admission::Holds(pid_t process) const {
  return std::any_of(promises_.begin(), promises_.end(), [&](const auto& promise) {
    const Entry& entry = promise.second.entry;
    return !entry.idle && entry.holder.process == process;
  });
}

Admission::Waiter* Admission::Next() const {
  auto holder = std::find_if(waiters_.begin(), waiters_.end(),
                             [this](const Waiter* waiter) { return Holds(waiter->entry.holder.process); });
  if (holder != waiters_.end()) return *holder;
  return waiters_.empty() ? nullptr : waiters_.front();
}

bool Admission::NobodyMakesRoom() const {
  auto waits = [this](const Holder& holder) {
    return std::any_of(waiters_.begin(), waiters_.end(), [&](const Waiter* waiter) {
      const Holder& other = waiter->entry.holder;
      return other.process == holder.process && other.thread == holder.thread;
    });
  };
  return std::all_of(promises_.begin(), promises_.end(), [&](const auto& promise) {
    return promise.second.entry.idle || waits(promise.second.entry.holder);
  });
}

const Admission::Waiter* Admission::Victim() const {
  auto last = std::find_if(waiters_.rbegin(), waiters_.rend(),
                           [this](const Waiter* waiter) { return Holds(waiter->entry.holder.process); });
  if (last != waiters_.rend()) return *last;
  return waiters_.empty() ? nullptr : waiters_.front();
}

Admission::Notice Admission::NoticeFor(const Waiter& waiter) const {
  Notice notice;
  Room room = RoomFor(waiter.entry.demand);
  notice.demand = waiter.entry.demand;
  notice.lacks_memory = room.cpus;
  notice.available = room.available;
  notice.waited = Clock::now() - waiter.entry.since;
  for (const auto& [id, promise] : promises_) {
    if (!promise.entry.idle) notice.holders.push_back(promise.entry);
  }
  for (const Waiter* other : waiters_) {
    if (other == &waiter) break;
    ++notice.ahead;
  }
  return notice;
}

nlohmann::json Admission::Info() const {
  std::lock_guard lock(mutex_);
  nlohmann::json waiting = nlohmann::json::array();
  for (const Waiter* waiter : waiters_) waiting.push_back(internal::ToJson(waiter->entry));
  return {{"memory",
           {{"whole", budget_.whole().count()},
            {"promised", Promised().count()},
            {"idle", Idle().count()},
            {"available", RoomFor({.cpus = 0}).available.count()}}},
          {"cpus", {{"whole", budget_.cpus()}, {"promised", PromisedCpus()}}},
          {"waiting", std::move(waiting)}};
}

// --- Who is admitted -------------------------------------------------------------------------------------------------

int Admission::Grant(Entry entry) {
  entry.since = Clock::now();
  promises_[next_id_] = {.entry = std::move(entry)};
  return next_id_++;
}

void Admission::Revoke(int id) {
  std::unique_lock lock(mutex_);
  promises_.erase(id);
  Settle(std::move(lock));
}

// Returns what the next one lacks, when that is all that it lacks.
Bytes Admission::AdmitInTurn() {
  while (Waiter* next = Next()) {
    if (!HasRoom(next->entry.demand)) {
      Room room = RoomFor(next->entry.demand);
      return room.cpus ? room.lacking : Bytes();
    }
    next->ticket = Grant(next->entry);
    waiters_.remove(next);
    eventfd_write(next->wake.get(), 1);
  }
  return {};
}

void Admission::Settle(std::unique_lock<std::mutex> lock) {
  bool giving_way = releasing_;
  for (Bytes before(UINT64_MAX);;) {
    Bytes lacking = AdmitInTurn();
    Bytes idle = Idle();
    giving_way = lacking != Bytes() && lacking <= idle && release_;
    // Asked again only when the last time has helped: idle tickets may also end later, each with a call of this.
    if (!giving_way || releasing_ || idle >= before) break;
    before = idle;
    releasing_ = true;
    lock.unlock();
    release_(lacking);
    lock.lock();
    releasing_ = false;
  }
  if (waiters_.empty() || giving_way || !NobodyMakesRoom()) {
    hopeless_since_.reset();
  } else {
    if (!hopeless_since_) hopeless_since_ = Clock::now();
    for (Waiter* waiter : waiters_) eventfd_write(waiter->wake.get(), 1);  // one of them is the victim now
  }
  lock.unlock();
  if (changed_) changed_();
}

// --- Waiting ---------------------------------------------------------------------------------------------------------

// Takes a place in the queue and leaves it, whatever happens. A ticket that nobody took ends here too.
class Admission::Place {
 public:
  Place(Admission& admission, Waiter& waiter) : admission_(admission), waiter_(waiter) {
    std::unique_lock lock(admission_.mutex_);
    admission_.waiters_.push_back(&waiter_);
    admission_.Settle(std::move(lock));
  }
  ~Place() {
    std::unique_lock lock(admission_.mutex_);
    if (taken_) return;
    admission_.waiters_.remove(&waiter_);
    if (waiter_.ticket) admission_.promises_.erase(*waiter_.ticket);
    admission_.Settle(std::move(lock));
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  int Take() {
    taken_ = true;
    return *waiter_.ticket;
  }

 private:
  Admission& admission_;
  Waiter& waiter_;
  bool taken_ = false;
};

Admission::Ticket Admission::Enter(const Demand& demand, const Holder& holder, const Patience& patience) {
  RefuseWhatNeverFits(demand, holder.name);
  Waiter waiter{.entry = {.holder = holder, .demand = demand, .since = Clock::now()},
                .wake = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))};
  if (!waiter.wake) {
    throw HostLacks({.summary = "cannot wait for memory: no free file descriptor",
                     .next_step = "use fewer VMs at once, or raise the limit (ulimit -n) and run `mayfly pool stop`"});
  }
  waiter.entry.demand.cpus = std::min(demand.cpus, budget_.cpus());
  Place place(*this, waiter);
  Await(waiter, patience);
  return Ticket(this, place.Take());
}

void Admission::Await(Waiter& waiter, const Patience& patience) {
  Clock::time_point next_notice = waiter.entry.since + times_.first_notice;
  std::unique_lock lock(mutex_);
  while (!waiter.ticket) {
    Clock::time_point wake_up = std::min(next_notice, patience.deadline.time());
    if (hopeless_since_ && Victim() == &waiter) wake_up = std::min(wake_up, *hopeless_since_ + times_.hopeless);
    lock.unlock();
    std::array<pollfd, 2> waiting = {pollfd{waiter.wake.get(), POLLIN, 0}, pollfd{patience.hang_up, POLLRDHUP, 0}};
    poll(waiting.data(), waiting.size(), Deadline::After(wake_up - Clock::now()).RemainingForPoll());
    eventfd_t ignored = 0;
    eventfd_read(waiter.wake.get(), &ignored);
    if (waiting[1].revents != 0) throw PeerGone({.summary = "the lease ended while it waited for memory"});
    lock.lock();
    if (waiter.ticket) return;

    Clock::time_point now = Clock::now();
    bool late = patience.deadline.Passed();
    auto hopeless = [&] { return hopeless_since_ && Victim() == &waiter && now >= *hopeless_since_ + times_.hopeless; };
    if (!late && !hopeless() && now < next_notice) continue;
    // Other programs come and go without a word; this is the moment to look what they left.
    Settle(std::move(lock));
    lock = std::unique_lock(mutex_);
    if (waiter.ticket) return;
    Notice notice = NoticeFor(waiter);
    if (late || hopeless()) {
      ErrorText text{.summary = fmt::format("'{}' waited {} for {} in vain", waiter.entry.holder.name,
                                            ForPeople(notice.waited), WhatIsLacking(notice)),
                     .notes = WhoHolds(notice),
                     .next_step = "run fewer tests at once (ctest -j), or give the VMs less"};
      if (late) throw Timeout(std::move(text));
      text.notes.emplace_back(notice.holders.empty() ? "no VM holds memory that could be waited for"
                                                     : "all of them wait for more, so that none would ever make room");
      throw HostLacks(std::move(text));
    }
    next_notice = now + times_.next_notice;
    if (!patience.on_wait) continue;
    lock.unlock();
    patience.on_wait(notice);
    lock.lock();
  }
}

Admission::Ticket Admission::TryEnterIdle(const Demand& demand, const std::string& name) {
  std::unique_lock lock(mutex_);
  Demand idle = demand;
  idle.cpus = 0;
  if (!waiters_.empty() || !HasRoom(idle)) return {};
  int id = Grant({.holder = {.name = name}, .demand = demand, .idle = true});
  Settle(std::move(lock));
  return Ticket(this, id);
}

void Admission::LookAgain() { Settle(std::unique_lock(mutex_)); }

}  // namespace mayfly::internal
