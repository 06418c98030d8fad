#include <mayfly/agent.h>

#include <chrono>
#include <utility>

#include <mayfly/internal/agent_connection.h>
#include <mayfly/internal/agent_fix.h>
#include <mayfly/internal/blocking_call.h>
#include <mayfly/internal/io_thread.h>

namespace mayfly {

using internal::AgentConnection;
using internal::BlockingCall;
using internal::RunOnIoThread;
using internal::agent::MessageWriter;

namespace {

// For what a guest does at once unless it hangs.
constexpr Duration kAnswerTime = std::chrono::seconds(30);
// Writing back everything that a guest has in memory may take its time.
constexpr Duration kSyncTime = std::chrono::minutes(5);
// How far the clock of a copy may be behind the host's.
constexpr Duration kClockMayBeLate = std::chrono::milliseconds(40);
// What the host gives the guest beyond a timeout that the guest itself watches.
constexpr Duration kGrace = std::chrono::seconds(10);

void Ask(const std::shared_ptr<AgentConnection>& connection, std::string what, MessageWriter request, Deadline deadline,
         std::string_view body = {}) {
  BlockingCall call(connection, std::move(what), std::move(request), body);
  call.Next(deadline);
}

Deadline AnswerDeadline() { return Deadline::After(Scaled(kAnswerTime)); }

uint64_t Milliseconds(Duration duration) {
  auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return count < 1 ? 1 : static_cast<uint64_t>(count);
}

void WaitFor(const std::shared_ptr<AgentConnection>& connection, const std::string& what, MessageWriter request,
             Duration timeout) {
  request.Set("timeout", Milliseconds(timeout));
  BlockingCall call(connection, what, std::move(request));
  Deadline deadline =
      timeout > Duration::max() - Scaled(kGrace) ? Deadline::Never() : Deadline::After(timeout + Scaled(kGrace));
  auto answer = call.NextOrError(deadline);
  if (answer->message.type() != "error") return;
  if (answer->message.Signed("errno") == ETIMEDOUT) {
    throw Timeout(
        {.summary = connection->Cannot(what, "nothing within " + ForPeople(timeout)), .notes = {}, .next_step = {}});
  }
  throw connection->Refusal(what, answer->message);
}

}  // namespace

Agent::Agent(internal::UniqueFd socket, Timeline& timeline, AgentOptions options)
    : connection_(std::make_shared<AgentConnection>(std::move(socket), timeline, std::move(options))) {
  RunOnIoThread([this] { connection_->Begin(); });
}

Agent::~Agent() {
  connection_->ForgetExplainer();
  Disconnect(std::make_exception_ptr(
      GuestFailed({.summary = "'" + connection_->name() + "': the VM was let go of", .notes = {}, .next_step = {}})));
}

AgentHello Agent::WaitForHello(Deadline deadline, uint64_t other_than) {
  AgentHello hello = connection_->WaitForHello(deadline, other_than);
  if (connection_->TakeDelayOfCopy() > kClockMayBeLate) FixUp();
  return hello;
}

std::optional<AgentHello> Agent::hello() const { return connection_->hello(); }

void Agent::Disconnect(const std::exception_ptr& reason) {
  RunOnIoThread([&] { connection_->Fail(reason); });
}

bool Agent::connected() const { return connection_->connected(); }

void Agent::OnClosed(std::function<void(const std::string& reason)> callback) {
  connection_->OnClosed(std::move(callback));
}

void Agent::WaitForPort(uint16_t port, Duration timeout) {
  MessageWriter request("wait");
  request.Set("what", "port").Set("port", uint64_t{port});
  WaitFor(connection_, "wait for a listener on port " + std::to_string(port), std::move(request), timeout);
}

void Agent::WaitForFile(std::string_view path, Duration timeout) {
  MessageWriter request("wait");
  request.Set("what", "file").Set("name", path);
  WaitFor(connection_, "wait for the file " + std::string(path), std::move(request), timeout);
}

void Agent::WaitForUnit(std::string_view unit, Duration timeout) {
  MessageWriter request("wait");
  request.Set("what", "unit").Set("name", unit);
  WaitFor(connection_, "wait for the unit " + std::string(unit), std::move(request), timeout);
}

void Agent::Sync() { Ask(connection_, "sync", MessageWriter("sync"), Deadline::After(Scaled(kSyncTime))); }

void Agent::PowerOff(Deadline deadline) { Ask(connection_, "power off", MessageWriter("poweroff"), deadline); }

void Agent::Reboot(Deadline deadline) { Ask(connection_, "reboot", MessageWriter("reboot"), deadline); }

void Agent::Quiesce() { Ask(connection_, "stop all processes", MessageWriter("quiesce"), AnswerDeadline()); }

void Agent::FixUp(const GuestIdentity& identity) {
  MessageWriter request("fix");
  std::string random = internal::AddFix(request, identity);
  Ask(connection_, std::string(internal::kFixing), std::move(request), AnswerDeadline(), random);
}

Agent::Released Agent::Release() {
  return RunOnIoThread([this] { return connection_->Release(); });
}

}  // namespace mayfly
