#include "daemon/session.h"

#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/pool_protocol.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <string>

#include "daemon/pool_server.h"

namespace mayfly::internal {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr auto kMessageTime = seconds(10);
constexpr size_t kMaxProcesses = 16;
constexpr double kMaxCpus = 4096;

Duration FromSeconds(double count) {
  constexpr double kLongest = 1e9;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::min(count, kLongest)));
}

}  // namespace

struct Session::Operation {
  std::string_view name;
  Reply (Session::*answer)(Message& request);
};

Session::Session(PoolServer& pool, int id, UniqueFd socket)
    : pool_(pool), id_(id), socket_(std::move(socket)), peer_(PeerProcess(socket_.fd())) {
  info_ = {{"lease", id_}, {"peer", peer_}};
}

Session::~Session() {
  LetGo();
  if (watches_) pool_.RemoveWatcher();
}

KillPointProcesses Session::Processes() const {
  return {.test = peer_, .daemon = getpid(), .vmm = processes_.empty() ? -1 : processes_.begin()->second->pid()};
}

void Session::LetGo() {
  KillPoint("lease.returned", Processes());
  for (auto& [id, process] : processes_) process->Signal(SIGKILL);  // all at once, then each is reaped
  processes_.clear();
  KillPoint("lease.killed", Processes());
  sandbox_.reset();
  KillPoint("lease.removed", Processes());
  in_use_.Reset();
  ticket_ = {};
}

json Session::Info() const {
  std::lock_guard lock(mutex_);
  json info = info_;
  info["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  return info;
}

void Session::Run() {
  Greet();
  while (std::optional<Message> request = socket_.Receive(Deadline::Never())) {
    Reply reply;
    try {
      reply = Answer(*request);
    } catch (const Error& error) {
      reply.body["error"] = ToJson(error);
    } catch (const json::exception& error) {
      reply.body["error"] = ToJson(BadSpec({.summary = fmt::format("a pool request is malformed: {}", error.what())}));
    }
    socket_.Send(reply.body, reply.descriptors, Deadline::After(Scaled(kMessageTime)));
    if (reply.then) KillPoint(*reply.then, Processes());
    handed_over_.clear();
  }
}

void Session::Greet() {
  Deadline deadline = Deadline::After(Scaled(kMessageTime));
  std::optional<Message> hello = socket_.Receive(deadline);
  if (!hello) return;
  int protocol = hello->body.value("protocol", 0);
  if (hello->body.value("op", "") != "hello" || protocol != kPoolProtocol) {
    BadSpec refusal({.summary = fmt::format("mayflyd {} speaks pool protocol {}, this program {}", MAYFLY_VERSION,
                                            kPoolProtocol, protocol),
                     .next_step = "rebuild the program, or end the daemon with `mayfly pool stop`"});
    socket_.Send({{"error", ToJson(refusal)}}, deadline);
    throw refusal;
  }
  {
    std::lock_guard lock(mutex_);
    info_["program"] = hello->body.value("program", "");
  }
  socket_.Send({{"protocol", kPoolProtocol}, {"version", MAYFLY_VERSION}, {"pid", getpid()}}, deadline);
}

Session::Reply Session::Answer(Message& request) {
  static constexpr std::array kOperations = {
      Operation{"open", &Session::Open},   Operation{"start", &Session::Start}, Operation{"signal", &Session::Signal},
      Operation{"poll", &Session::Poll},   Operation{"keep", &Session::Keep},   Operation{"status", &Session::Status},
      Operation{"stop", &Session::Stop},   Operation{"fork", &Session::Fork},   Operation{"booted", &Session::Booted},
      Operation{"watch", &Session::Watch}, Operation{"close", &Session::Close},
  };
  std::string name = request.body.value("op", "");
  const auto* known =
      std::find_if(kOperations.begin(), kOperations.end(), [&](const Operation& o) { return o.name == name; });
  if (known == kOperations.end()) throw BadSpec({.summary = fmt::format("the pool has no operation \"{}\"", name)});
  return (this->*known->answer)(request);
}

Holder Session::HolderOf(const json& request, const std::string& name) const {
  std::lock_guard lock(mutex_);
  return {.program = info_.at("program"), .process = peer_, .thread = request.value("thread", -1), .name = name};
}

Admission::Ticket Session::Admit(const json& request, const Demand& demand, const std::string& name) {
  if (!(demand.cpus >= 0 && demand.cpus <= kMaxCpus)) {
    throw BadSpec({.summary = fmt::format("a lease of {} CPUs; allowed: 0 to {}", demand.cpus, kMaxCpus)});
  }
  double wait = request.value("wait", -1.0);
  return pool_.admission().Enter(demand, HolderOf(request, name),
                                 {.deadline = wait < 0 ? Deadline::Never() : Deadline::After(FromSeconds(wait)),
                                  .hang_up = socket_.fd(),
                                  .on_wait = [this](const Admission::Notice& notice) {
                                    pool_.log().Write("lease-waits", {{"lease", id_}, {"text", notice.Text()}});
                                    socket_.Send({{"waiting", notice.ToJson()}}, Deadline::After(Scaled(kMessageTime)));
                                  }});
}

void Session::RefuseSecondLease() const {
  if (sandbox_) throw BadSpec({.summary = "this lease is open already"});
  if (watches_) throw BadSpec({.summary = "a connection that watches the pool cannot be a lease"});
}

Session::Reply Session::Open(Message& request) {
  RefuseSecondLease();
  std::string name = request.body.at("name");
  Bytes memory(request.body.at("memory").get<uint64_t>());
  auto cpus = request.body.at("cpus").get<double>();
  Demand demand = request.body.value("copy", false) ? DemandOfFork(memory, cpus) : DemandOfBooted(memory, cpus);
  demand.overhead = Bytes(request.body.value("overhead", kVmmOverhead.count()));
  ticket_ = Admit(request.body, demand, name);
  KillPoint("lease.admitted", Processes());
  sandbox_ = Sandbox::Create(name);
  KillPoint("lease.created", Processes());
  Opened({{"name", name}, {"memory", request.body.at("memory")}, {"cpus", request.body.at("cpus")}});
  KillPoint("lease.registered", Processes());
  return {.body = {{"directory", sandbox_->directory().string()}}, .then = KillPointName("lease.handed-over")};
}

void Session::Opened(const json& what) {
  {
    std::lock_guard lock(mutex_);
    info_.update(what);
    info_["directory"] = sandbox_->directory().string();
    info_["processes"] = json::array();
  }
  pool_.log().Write("lease-opened", Info());
  pool_.changes().Bump();
}

Session::Reply Session::Fork(Message& request) {
  RefuseSecondLease();
  std::string from = request.body.at("template").get<std::string>();
  ForkKind kind{.directory = from};
  if (std::optional<ReadyFork> warm = pool_.forks().TakeWarm(kind)) {
    return HandOverWarm(request.body, std::move(*warm), from);
  }
  Admission::Ticket ticket = Admit(request.body, DemandOf(kind), request.body.at("name"));
  return HandOver(pool_.forks().Make(kind, std::move(ticket)), from);
}

Session::Reply Session::Booted(Message& request) {
  RefuseSecondLease();
  ForkKind kind{.driver = request.body.at("driver"), .spec = request.body.at("spec")};
  // This process may have been started with other programs and settings than the client.
  MachineSpec spec = SpecFromJson(kind.spec, "pool request");
  bool same = FindDriver(kind.driver).CopyIdentity(spec) == request.body.at("identity").get<std::string>();
  std::optional<ReadyFork> vm = same ? pool_.forks().TakeWarm(kind) : std::nullopt;
  if (!vm) return {.body = {{"none", true}}};
  return HandOverWarm(request.body, std::move(*vm), "");
}

Session::Reply Session::HandOverWarm(const json& request, ReadyFork fork, const std::string& from) {
  fork.ticket.HandOver(HolderOf(request, fork.spec.name));
  return HandOver(std::move(fork), from);
}

Session::Reply Session::HandOver(ReadyFork fork, const std::string& from) {
  KillPoint("fork.taken", {.test = peer_, .daemon = getpid(), .vmm = fork.machine.vmm->pid()});
  ticket_ = std::move(fork.ticket);
  sandbox_ = std::move(fork.machine.sandbox);
  in_use_ = std::move(fork.in_use);
  Opened(
      {{"name", fork.spec.name}, {"memory", fork.spec.memory.count()}, {"cpus", fork.spec.cpus}, {"template", from}});
  Process& vmm = *fork.machine.vmm;
  {
    std::lock_guard lock(mutex_);
    info_["processes"].push_back({{"pid", vmm.pid()}, {"program", fork.driver}});
  }
  pool_.changes().Bump();
  Reply reply{.body = {{"directory", sandbox_->directory().string()},
                       {"driver", fork.driver},
                       {"record", fork.machine.record},
                       {"session", ToJson(fork.session)},
                       {"process", next_process_},
                       {"pid", vmm.pid()}},
              .descriptors = {vmm.pidfd(), fork.agent.get()}};
  handed_over_ = std::move(fork.machine.descriptors);
  for (const UniqueFd& descriptor : handed_over_) reply.descriptors.push_back(descriptor.get());
  handed_over_.push_back(std::move(fork.agent));
  processes_[next_process_++] = std::move(fork.machine.vmm);
  KillPoint("fork.registered", Processes());
  reply.then = KillPointName("fork.handed-over");
  return reply;
}

Session::Reply Session::Start(Message& request) {
  if (!sandbox_) throw BadSpec({.summary = "a lease must be open before a process is started in it"});
  if (processes_.size() >= kMaxProcesses) {
    throw BadSpec({.summary = fmt::format("a lease has at most {} processes", kMaxProcesses)});
  }
  ChildOptions options = ChildOptionsFromJson(request.body.at("options"), request.descriptors);
  options.grace = Duration::zero();  // the client waits for those that it ends; what it leaves behind is killed
  std::string program = options.argv.empty() ? "" : options.argv[0];
  auto process = std::make_unique<ChildProcess>(std::move(options));
  EndFirstWithoutMemory(process->pid());
  KillPoint("process.created", {.test = peer_, .daemon = getpid(), .vmm = process->pid()});
  Reply reply{.body = {{"process", next_process_}, {"pid", process->pid()}}, .descriptors = {process->pidfd()}};
  {
    std::lock_guard lock(mutex_);
    info_["processes"].push_back({{"pid", process->pid()}, {"program", program}});
  }
  ticket_.AddProcess(process->pid());
  pool_.log().Write("process-started", {{"lease", id_}, {"pid", process->pid()}, {"program", program}});
  pool_.changes().Bump();
  processes_[next_process_++] = std::move(process);
  KillPoint("process.registered", Processes());
  reply.then = KillPointName("process.handed-over");
  return reply;
}

Process& Session::ProcessOf(const Message& request) {
  auto found = processes_.find(request.body.at("process").get<int>());
  if (found == processes_.end()) throw BadSpec({.summary = "this lease has no such process"});
  return *found->second;
}

Session::Reply Session::Signal(Message& request) {
  ProcessOf(request).Signal(request.body.at("signal").get<int>());
  return {};
}

Session::Reply Session::Poll(Message& request) {
  Process& process = ProcessOf(request);
  std::optional<ExitStatus> status = process.Poll();
  if (!status) return {};
  ticket_.RemoveProcess(process.pid());
  pool_.log().Write("process-ended", {{"lease", id_}, {"pid", process.pid()}, {"how", status->ToString()}});
  {
    std::lock_guard lock(mutex_);
    json& running = info_["processes"];
    running.erase(std::remove_if(running.begin(), running.end(),
                                 [&](const json& entry) { return entry.at("pid") == process.pid(); }),
                  running.end());
  }
  pool_.changes().Bump();
  processes_.erase(request.body.at("process").get<int>());
  return {.body = {{"code", status->code}, {"signal", status->signal}}};
}

Session::Reply Session::Keep(Message&) {
  if (sandbox_) sandbox_->Keep();
  return {};
}

Session::Reply Session::Close(Message&) {
  LetGo();
  return {};
}

Session::Reply Session::Status(Message&) { return {.body = pool_.Status()}; }

Session::Reply Session::Watch(Message& request) {
  if (!sandbox_ && !std::exchange(watches_, true)) pool_.AddWatcher();
  pool_.changes().WaitForOther(request.body.value("seen", uint64_t{0}), socket_.fd());
  return {.body = pool_.Status()};
}

Session::Reply Session::Stop(Message&) {
  pool_.RequestStop();
  return {};
}

}  // namespace mayfly::internal
