// Requests to the guest's agent from threads that wait for the answer. Any thread but the I/O thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <mayfly/deadline.h>
#include <mayfly/internal/agent_connection.h>
#include <mayfly/internal/agent_message.h>

namespace mayfly::internal {

// A message that owns its bytes.
struct AgentMessage {
  AgentMessage(std::string_view header, std::string_view body_bytes);
  AgentMessage(const AgentMessage&) = delete;
  AgentMessage& operator=(const AgentMessage&) = delete;
  const std::string bytes;
  const std::string body;
  const agent::Message message;  // its texts point into bytes
};

// One request, seen from a thread that waits for it. Cancels it when it goes before the end.
class BlockingCall {
 public:
  BlockingCall(std::shared_ptr<AgentConnection> connection, std::string what, agent::MessageWriter request,
               std::string_view body = {}, int64_t window = agent::kWindow);
  ~BlockingCall();
  BlockingCall(const BlockingCall&) = delete;
  BlockingCall& operator=(const BlockingCall&) = delete;

  // The next message of the guest. Throws Timeout, GuestFailed for an `error`, and the connection's reason when that
  // ends.
  std::unique_ptr<AgentMessage> Next(Deadline deadline);
  // The same, without throwing for `error`.
  std::unique_ptr<AgentMessage> NextOrError(Deadline deadline);
  // Waits until `cost` may be sent. False when the guest has sent something instead: there is no use in sending more.
  bool WaitForCredit(int64_t cost, Deadline deadline);
  void Send(agent::MessageWriter message, std::string body = {});
  void GiveBack(int stream, int64_t cost);

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::unique_ptr<AgentMessage>> messages;
    std::exception_ptr failed;
    int64_t credit = 0;
  };
  [[noreturn]] void ThrowTimeout() const;

  const std::shared_ptr<AgentConnection> connection_;
  const std::string what_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
  uint64_t id_ = 0;
};

}  // namespace mayfly::internal
