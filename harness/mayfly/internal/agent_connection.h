// The host's end of one agent channel: greets, keeps the session, sends requests and hands what comes back to them.
//
// The channel is a connected socket, whose end is the end of this connection too; or a listening one, to which the
// guest's agent connects (vsock). Then the end of a stream is the end of a session only: the next guest, or the next
// agent, connects anew, and the connection ends when the listener is shut down, which the machine does when it is down.
//
// State belongs to the I/O thread. Calls are made there; BlockingCall (blocking_call.h) is the way in for other
// threads. Everything from the guest is checked here: frame sizes (agent_frame.h), identifiers, credit.
#pragma once

#include <sys/types.h>

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <mayfly/agent.h>
#include <mayfly/errors.h>
#include <mayfly/internal/agent_frame.h>
#include <mayfly/internal/agent_message.h>
#include <mayfly/internal/agent_transcript.h>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

namespace mayfly::internal {

class AgentConnection : public std::enable_shared_from_this<AgentConnection> {
 public:
  // What a request does with the guest's frames. Both run on the I/O thread.
  struct Handlers {
    std::string what;  // "run `true`", for messages
    // The last message of a request (done, error, exit) ends the call before this is called.
    std::function<void(const agent::Message&, std::string_view header, std::string_view body)> on_message;
    // The connection or the session ended, and the call with it.
    std::function<void(std::exception_ptr)> on_failed;
    int64_t window = agent::kWindow;  // of the streams from the guest
  };

  AgentConnection(UniqueFd socket, Timeline& timeline, AgentOptions options);
  ~AgentConnection();
  void Begin();

  // --- Any thread ----------------------------------------------------------------------------------------------------
  const std::string& name() const { return options_.name; }
  AgentHello WaitForHello(Deadline deadline, uint64_t other_than);
  std::optional<AgentHello> hello() const;
  // How long the guest took to become the copy that it was told to be; once.
  Duration TakeDelayOfCopy();
  bool connected() const;
  void OnClosed(std::function<void(const std::string&)> callback);
  // "'kv-7f3a': cannot run `x`: no such file".
  std::string Cannot(std::string_view what, std::string_view why) const;
  // Gives AgentOptions::explain the word on an error that a GuestProcess is about to throw.
  void Explain(const GuestFailed& error) const;
  void ForgetExplainer();
  // What an `error` of the guest means for the caller.
  GuestFailed Refusal(std::string_view what, const agent::Message& error) const;

  // --- I/O thread only
  // ------------------------------------------------------------------------------------------------ Sends a request
  // and returns its id. Throws when there is no agent to ask.
  uint64_t Call(agent::MessageWriter request, std::string_view body, Handlers handlers);
  // Takes a connection that the guest announced.
  void Adopt(uint64_t id, Handlers handlers);
  bool HasCall(uint64_t id) const { return calls_.count(id) != 0; }
  // Sends a further frame of a call; nothing when it has ended.
  void Send(uint64_t id, agent::MessageWriter message, std::string_view body = {});
  // The receiver is done with `cost` bytes of credit on `stream`; the guest may send as much again.
  void GiveBack(uint64_t id, int stream, int64_t cost);
  // Ends a call that is not wanted any more.
  void Cancel(uint64_t id);
  // Bytes that wait to be written: producers with a choice hold back while this is large.
  size_t queued() const { return queued_; }
  void Fail(const std::exception_ptr& reason);
  // Ends the connection without closing the channel, which it returns.
  Agent::Released Release();
  [[noreturn]] void ThrowProtocolError(const std::string& how) const;

 private:
  struct PendingCall {
    Handlers handlers;
    Clock::time_point began;
    std::array<int64_t, agent::kStreams> charged{};  // received and not given back
    std::array<int64_t, agent::kStreams> owed{};     // given back and not yet told
  };

  void Accept();
  void OnStreamEnd(const std::string& why);
  void Read();
  void OnRead(size_t count);
  void Dispatch(const agent::Frame& frame);
  void OnGreeting(const agent::Message& message);
  void BeginSession(AgentHello hello);
  void Charge(uint64_t id, PendingCall& call, const agent::Message& message, size_t body);
  bool IsLate(uint64_t id) const;
  void Greet();
  void Queue(std::string frame);
  void Write();
  void EndCalls(const std::exception_ptr& reason);
  void EndSession(const std::string& why);
  void Log(const PendingCall& call, std::string_view outcome);

  const AgentOptions options_;
  Timeline* timeline_;  // null once the connection has ended
  Transcript transcript_;

  boost::asio::posix::stream_descriptor listener_;  // open: where the guest connects
  boost::asio::generic::stream_protocol::socket socket_;
  uint64_t stream_ = 0;  // counts the connections of the guest; what began on an earlier one is over
  agent::FrameReader reader_;
  std::deque<std::string> queue_;     // frames that wait
  std::vector<std::string> writing_;  // frames that are being written
  size_t queued_ = 0;
  bool greeting_queued_ = false;  // in queue_

  const uint64_t client_;
  std::optional<GuestIdentity> copy_;  // to be told with the greeting still
  Clock::time_point told_copy_;        // when it was, last
  uint64_t session_ = 0;               // 0: no agent has answered
  uint64_t greetings_ = 0;
  uint64_t next_id_ = 0;          // the last one used, even
  uint64_t last_connection_ = 0;  // the last one that the guest announced, odd
  std::map<uint64_t, std::shared_ptr<PendingCall>> calls_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::optional<AgentHello> hello_;
  Duration delay_of_copy_{};
  std::exception_ptr closed_;
  std::vector<std::function<void(const std::string&)>> on_closed_;
  std::function<void(const GuestFailed&)> explain_;
};

// `reason` as it is, with a note more. For errors that several calls share.
std::exception_ptr WithNote(const std::exception_ptr& reason, const std::string& note);

}  // namespace mayfly::internal
