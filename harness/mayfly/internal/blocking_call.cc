#include <mayfly/internal/blocking_call.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/io_thread.h>
#include <boost/asio/post.hpp>

namespace mayfly::internal {

using agent::Message;
using agent::MessageWriter;

AgentMessage::AgentMessage(std::string_view header, std::string_view body_bytes)
    : bytes(header), body(body_bytes), message(Message::Parse(bytes).value()) {}

BlockingCall::BlockingCall(std::shared_ptr<AgentConnection> connection, std::string what, MessageWriter request,
                           std::string_view body, int64_t window)
    : connection_(std::move(connection)), what_(std::move(what)) {
  RequireBlockingAllowed(what_);
  state_->credit = window;
  auto on_message = [state = state_, window](const Message& message, std::string_view header, std::string_view bytes) {
    std::lock_guard lock(state->mutex);
    if (message.type() == "credit") {
      state->credit =
          std::min(window, state->credit + static_cast<int64_t>(std::min<uint64_t>(message.Number("n"), INT32_MAX)));
    } else {
      state->messages.push_back(std::make_unique<AgentMessage>(header, bytes));
    }
    state->changed.notify_all();
  };
  auto on_failed = [state = state_](std::exception_ptr reason) {
    std::lock_guard lock(state->mutex);
    state->failed = std::move(reason);
    state->changed.notify_all();
  };
  id_ = RunOnIoThread([&] {
    return connection_->Call(std::move(request), body,
                             {.what = what_, .on_message = on_message, .on_failed = on_failed, .window = window});
  });
}

BlockingCall::~BlockingCall() {
  boost::asio::post(IoContext(), [connection = connection_, id = id_] { connection->Cancel(id); });
}

void BlockingCall::ThrowTimeout() const {
  throw Timeout(
      {.summary = connection_->Cannot(what_, "the guest has not answered in time"), .notes = {}, .next_step = {}});
}

std::unique_ptr<AgentMessage> BlockingCall::NextOrError(Deadline deadline) {
  std::unique_lock lock(state_->mutex);
  auto arrived = [&] { return !state_->messages.empty() || state_->failed != nullptr; };
  if (!state_->changed.wait_until(lock, deadline.time(), arrived)) ThrowTimeout();
  // What came before the connection ended still counts.
  if (state_->messages.empty()) std::rethrow_exception(state_->failed);
  auto message = std::move(state_->messages.front());
  state_->messages.pop_front();
  return message;
}

std::unique_ptr<AgentMessage> BlockingCall::Next(Deadline deadline) {
  auto message = NextOrError(deadline);
  if (message->message.type() == "error") throw connection_->Refusal(what_, message->message);
  return message;
}

bool BlockingCall::WaitForCredit(int64_t cost, Deadline deadline) {
  std::unique_lock lock(state_->mutex);
  auto ready = [&] { return state_->credit >= cost || !state_->messages.empty() || state_->failed != nullptr; };
  if (!state_->changed.wait_until(lock, deadline.time(), ready)) ThrowTimeout();
  if (!state_->messages.empty() || state_->failed != nullptr) return false;
  state_->credit -= cost;
  return true;
}

void BlockingCall::Send(MessageWriter message, std::string body) {
  boost::asio::post(IoContext(), [connection = connection_, id = id_, message = std::move(message),
                                  body = std::move(body)] { connection->Send(id, message, body); });
}

void BlockingCall::GiveBack(int stream, int64_t cost) {
  boost::asio::post(IoContext(),
                    [connection = connection_, id = id_, stream, cost] { connection->GiveBack(id, stream, cost); });
}

}  // namespace mayfly::internal
