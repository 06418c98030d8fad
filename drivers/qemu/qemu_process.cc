#include "drivers/qemu/qemu_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <mayfly/internal/log_tail.h>
#include <mayfly/internal/served_process.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <system_error>

#include "drivers/qemu/command_line.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {
namespace {

void SocketPair(UniqueFd& ours, UniqueFd& theirs) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    throw HostLacks(
        {.summary = fmt::format("cannot make a socket pair for QEMU: {}", std::generic_category().message(errno)),
         .next_step = "raise the limit of open files (ulimit -n)"});
  }
  ours.Reset(pair[0]);
  theirs.Reset(pair[1]);
}

}  // namespace

// Waits for the process's end on the I/O thread, where all of its state belongs.
class QemuProcess::Watch : public std::enable_shared_from_this<Watch> {
 public:
  Watch(Process& child, Options options, uint64_t log_begin, int agent)
      : child_(&child),
        agent_(agent < 0 ? -1 : fcntl(agent, F_DUPFD_CLOEXEC, 3)),
        log_(options.log),
        log_begin_(log_begin),
        on_event_(std::move(options.on_event)),
        on_exit_(std::move(options.on_exit)),
        exited_(IoContext(), fcntl(child.pidfd(), F_DUPFD_CLOEXEC, 3)) {}

  void Start(QmpClient* qmp) {
    qmp_ = qmp;
    exited_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (!error) self->Exited();
                       });
  }

  void Event(const std::string& name, const nlohmann::json& data) {
    if (on_event_ && !on_event_(name, data) && agent_) shutdown(agent_.get(), SHUT_RDWR);
  }

  // The end of the connection belongs to the end of the process; nonsense on it ends the process.
  void ConnectionClosed(bool in_order, const std::string& reason) {
    if (in_order) return;
    trouble_ = reason;
    if (child_ != nullptr) child_->Signal(SIGKILL);
  }

  std::vector<std::string> LastWords() const { return LastLines(log_, log_begin_); }

  void Exited() {
    if (child_ == nullptr || told_) return;
    auto status = child_->Poll();
    if (!status) return;
    if (qmp_ != nullptr) qmp_->Drain();
    told_ = true;
    boost::system::error_code ignored;
    exited_.close(ignored);
    if (on_exit_) on_exit_({.status = *status, .trouble = trouble_, .last_words = LastWords()});
  }

  void Abandon() {
    child_ = nullptr;
    qmp_ = nullptr;
    on_event_ = nullptr;
    on_exit_ = nullptr;
    boost::system::error_code ignored;
    exited_.close(ignored);
  }

 private:
  Process* child_;
  const UniqueFd agent_;  // a copy of our end of the agent channel
  const std::filesystem::path log_;
  const uint64_t log_begin_;  // how much of the log earlier runs wrote
  QmpClient* qmp_ = nullptr;
  std::function<bool(const std::string&, const nlohmann::json&)> on_event_;
  std::function<void(const QemuExit&)> on_exit_;
  boost::asio::posix::stream_descriptor exited_;
  std::string trouble_;
  bool told_ = false;
};

QemuProcess::Sockets QemuProcess::MakeSockets(bool agent) {
  Sockets sockets;
  SocketPair(sockets.qmp, sockets.qemu_qmp);
  if (agent) SocketPair(sockets.agent, sockets.qemu_agent);
  return sockets;
}

ChildOptions QemuProcess::MakeChild(const Options& options, const Sockets& sockets) {
  ChildOptions child{.argv = options.argv,
                     .stdout_path = options.log,
                     .stderr_path = options.log,
                     .inherit = {{sockets.qemu_qmp.get(), kQmpDescriptor}},
                     .grace = Duration::zero()};
  if (options.agent) child.inherit.emplace_back(sockets.qemu_agent.get(), kAgentDescriptor);
  for (const auto& [ours, theirs] : options.descriptors) child.inherit.emplace_back(ours.get(), theirs);
  if (options.state) child.inherit.emplace_back(options.state.get(), kStateDescriptor);
  // Many VMs live at once: an arena for each of QEMU's threads would cost each of them some MiB.
  child.environment.emplace_back("MALLOC_ARENA_MAX", "1");
  return child;
}

QemuProcess::QemuProcess(const Sandbox& sandbox, Options options) : sockets_(MakeSockets(options.agent)) {
  uint64_t log_begin = SizeOfFile(options.log);
  child_ = sandbox.Start(MakeChild(options, sockets_));
  if (!options.servers.empty()) {
    child_ = std::make_unique<ServedProcess>(std::move(child_), std::move(options.servers));
  }
  sockets_.qemu_qmp.Reset();
  sockets_.qemu_agent.Reset();
  options.descriptors.clear();  // QEMU has them
  Attach(std::move(options), std::move(sockets_.qmp), {}, log_begin);
}

QemuProcess::QemuProcess(Running running, Options options) : child_(std::move(running.child)) {
  sockets_.agent = std::move(running.agent);
  uint64_t log_begin = SizeOfFile(options.log);
  Attach(std::move(options), std::move(running.qmp), std::move(running.qmp_received), log_begin);
}

void QemuProcess::Attach(Options options, UniqueFd qmp, std::string qmp_received, uint64_t log_begin) {
  watch_ = std::make_shared<Watch>(*child_, std::move(options), log_begin, sockets_.agent.get());
  qmp_ = std::make_unique<QmpClient>(
      std::move(qmp),
      QmpClient::Handlers{
          .on_event = [watch = watch_](const std::string& name,
                                       const nlohmann::json& data) { watch->Event(name, data); },

          .on_closed = [watch = watch_](bool in_order,
                                        const std::string& reason) { watch->ConnectionClosed(in_order, reason); }},
      std::move(qmp_received));
  RunOnIoThread([&] { watch_->Start(qmp_.get()); });
}

QemuProcess::~QemuProcess() {
  RunOnIoThread([&] { watch_->Abandon(); });
  qmp_.reset();
}

QemuProcess::Running QemuProcess::Release() {
  QmpClient::Released qmp = qmp_->Release();
  RunOnIoThread([&] { watch_->Abandon(); });
  return {.child = std::move(child_), .qmp = std::move(qmp.socket), .qmp_received = std::move(qmp.received)};
}

void QemuProcess::AddServer(std::unique_ptr<Process> server) {
  std::vector<std::unique_ptr<Process>> servers;
  servers.push_back(std::move(server));
  child_ = std::make_unique<ServedProcess>(std::move(child_), std::move(servers));
}

void QemuProcess::Kill() {
  child_->Kill();
  RunOnIoThread([&] { watch_->Exited(); });
}

bool QemuProcess::WaitForExit(Deadline deadline) {
  try {
    child_->Wait(deadline);
  } catch (const Timeout&) {
    return false;
  }
  RunOnIoThread([&] { watch_->Exited(); });
  return true;
}

std::vector<std::string> QemuProcess::LastWords() const { return watch_->LastWords(); }

}  // namespace mayfly::internal
