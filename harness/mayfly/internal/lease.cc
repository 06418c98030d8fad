#include <mayfly/internal/lease.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/pool_protocol.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>

namespace mayfly::internal {
namespace {

// A process that the pool started for a lease. The pool is its parent, so only the pool can tell how it ended.
class LeasedProcess : public Process {
 public:
  LeasedProcess(std::shared_ptr<Lease> lease, const nlohmann::json& started, UniqueFd pidfd, Duration grace)
      : lease_(std::move(lease)), id_(started.at("process").get<int>()), grace_(grace) {
    pid_ = started.at("pid").get<pid_t>();
    pidfd_ = std::move(pidfd);
  }
  ~LeasedProcess() override { End(grace_); }

  std::optional<ExitStatus> Poll() override {
    std::lock_guard lock(mutex_);
    pollfd now{pidfd(), POLLIN, 0};
    if (!status_ && poll(&now, 1, 0) == 1) status_ = AskHowItEnded();
    return status_;
  }

  void Signal(int signal) override {
    try {
      lease_->connection().Call({{"op", "signal"}, {"process", id_}, {"signal", signal}});
    } catch (const Error&) {
      // The pool has gone away, and with it its children.
    }
  }

 private:
  ExitStatus AskHowItEnded() {
    try {
      Message reply = lease_->connection().Call({{"op", "poll"}, {"process", id_}});
      return {reply.body.value("code", 0), reply.body.value("signal", 0)};
    } catch (const Error&) {
      return {0, SIGKILL};  // what PDEATHSIG sent when the pool died
    }
  }

  const std::shared_ptr<Lease> lease_;
  const int id_;
  const Duration grace_;
  std::mutex mutex_;
  std::optional<ExitStatus> status_;
};

constexpr Duration kWait = std::chrono::minutes(10);

double SecondsToWait() {
  const char* value = std::getenv("MAYFLY_POOL_WAIT");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  std::string_view text = value != nullptr ? value : "";
  if (text.empty()) return std::chrono::duration<double>(Scaled(kWait)).count();
  double seconds = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || !(seconds >= 0)) {
    throw BadSpec({.summary = fmt::format("MAYFLY_POOL_WAIT: \"{}\" is no time; allowed: a number of seconds, such as "
                                          "600; 0 does not wait",
                                          text)});
  }
  return seconds;
}

void SayOnStandardError(const std::string& line) { std::fputs(("mayfly: " + line + "\n").c_str(), stderr); }

void SayWhoIsInTheWay(const nlohmann::json& waiting) { SayOnStandardError(waiting.value("text", "")); }

nlohmann::json OpenMessage(const LeaseRequest& request) {
  nlohmann::json message = {{"op", "open"},         {"name", request.name},    {"memory", request.memory.count()},
                            {"cpus", request.cpus}, {"wait", SecondsToWait()}, {"thread", gettid()}};
  if (request.copy) message["copy"] = true;
  if (request.overhead) message["overhead"] = request.overhead->count();
  return message;
}

}  // namespace

LeaseRequest RequestFor(const MachineSpec& spec) {
  return {.name = spec.name, .memory = std::max(spec.memory, spec.max_memory), .cpus = static_cast<double>(spec.cpus)};
}

std::shared_ptr<Lease> Lease::Open(const LeaseRequest& request) {
  return std::make_shared<Lease>(PoolConnection::Open(), request);
}

Lease::Lease(std::unique_ptr<PoolConnection> connection, const LeaseRequest& request)
    : connection_(std::move(connection)) {
  KillPoint("lease.connected", {.test = getpid(), .daemon = connection_->daemon_pid()});
  Message reply = connection_->Call(OpenMessage(request), {}, Deadline::Never(), [&](const nlohmann::json& waiting) {
    (request.on_wait ? request.on_wait : SayOnStandardError)(waiting.value("text", ""));
  });
  directory_ = reply.body.at("directory").get<std::string>();
}

Lease::Fork Lease::OpenFork(const std::filesystem::path& directory, const std::string& name) {
  std::unique_ptr<PoolConnection> connection = PoolConnection::Open();
  nlohmann::json message = {{"op", "fork"},
                            {"template", directory.string()},
                            {"name", name},
                            {"wait", SecondsToWait()},
                            {"thread", gettid()}};
  Message reply = connection->Call(message, {}, Deadline::Never(), SayWhoIsInTheWay);
  return ForkOf(std::move(connection), std::move(reply));
}

std::optional<Lease::Fork> Lease::OpenBooted(const Driver& driver, const MachineSpec& spec) {
  std::unique_ptr<PoolConnection> connection = PoolConnection::Open();
  nlohmann::json message = OpenMessage(RequestFor(spec));
  message["op"] = "booted";
  message["driver"] = driver.Name();
  message["spec"] = mayfly::ToJson(spec);
  message["identity"] = driver.CopyIdentity(spec);
  Message reply = connection->Call(message, {}, Deadline::Never(), SayWhoIsInTheWay);
  if (reply.body.contains("none")) return std::nullopt;
  return ForkOf(std::move(connection), std::move(reply));
}

Lease::Fork Lease::ForkOf(std::unique_ptr<PoolConnection> connection, Message reply) {
  if (reply.descriptors.size() < 2) throw HostLacks({.summary = "the pool gave a fork without its descriptors"});
  auto lease = std::make_shared<Lease>(std::move(connection), reply.body.at("directory").get<std::string>());
  Fork fork{.driver = reply.body.at("driver").get<std::string>(),
            .machine = {.record = reply.body.at("record").get<std::string>(),
                        .sandbox = Sandbox::OwnedBy(lease, lease->directory()),
                        .vmm = std::make_unique<LeasedProcess>(lease, reply.body, std::move(reply.descriptors[0]),
                                                               Duration::zero())},
            .agent = std::move(reply.descriptors[1]),
            .session = AgentSessionFromJson(reply.body.at("session"))};
  KillPoint("fork.adopted",
            {.test = getpid(), .daemon = lease->connection().daemon_pid(), .vmm = reply.body.at("pid").get<pid_t>()});
  for (size_t i = 2; i < reply.descriptors.size(); ++i) {
    fork.machine.descriptors.push_back(std::move(reply.descriptors[i]));
  }
  return fork;
}

Lease::~Lease() {
  KillPoint("lease.returns", {.test = getpid(), .daemon = connection_->daemon_pid()});
  try {
    connection_->Call({{"op", "close"}}, {}, Deadline::After(Scaled(std::chrono::seconds(10))));
  } catch (const Error&) {
    // The pool has gone away, and with it all that it held; or it hangs, and sees the end of the connection later.
  }
}

std::unique_ptr<Process> Lease::Start(ChildOptions options) {
  // The pool's own directory is not ours.
  if (options.working_directory.empty()) options.working_directory = std::filesystem::current_path();
  std::vector<int> descriptors;
  for (const auto& [ours, target] : options.inherit) descriptors.push_back(ours);
  Message reply = connection_->Call({{"op", "start"}, {"options", ToJson(options)}}, descriptors);
  if (reply.descriptors.size() != 1) throw HostLacks({.summary = "the pool started a process without its pidfd"});
  return std::make_unique<LeasedProcess>(shared_from_this(), reply.body, std::move(reply.descriptors[0]),
                                         options.grace);
}

void Lease::Keep() { connection_->Call({{"op", "keep"}}); }

}  // namespace mayfly::internal
