// The agent's side of the protocol: greets the host, keeps the session, and hands frames to requests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <mayfly/internal/agent_message.h>
#include <mayfly/internal/file_stream.h>

#include "channel.h"
#include "loop.h"

namespace mayfly::agent {

using internal::agent::Frame;
using internal::agent::Message;
using internal::agent::MessageWriter;

class Server;

// Something that the host asked for and that is not done yet. Ends by Done or Fail (or its own last frame and Finish),
// after which it is deleted soon; or it is deleted because its session ended, and then cleans up in its destructor.
class Request {
 public:
  Request(Server& server, uint64_t id) : server_(server), id_(id) {}
  virtual ~Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // A later frame with this request's id.
  virtual void Take(const Message& /*message*/, std::string_view /*body*/) {}
  // The channel has room again.
  virtual void Resume() {}
  uint64_t id() const { return id_; }
  bool finished() const { return finished_; }

 protected:
  MessageWriter Reply(std::string_view type) const;
  void Send(MessageWriter message, std::string_view body = {});
  void Done() { Done(Reply("done")); }
  void Done(MessageWriter message);
  void Fail(const internal::agent::FileError& error);
  void Fail(int number, std::string what) { Fail(internal::agent::MakeFileError(number, std::move(what))); }
  void Finish();
  // Gives the sender of `stream` back `cost`, in portions.
  void GiveBack(int stream, int64_t cost, int64_t window);

  Server& server_;
  const uint64_t id_;

 private:
  bool finished_ = false;
  int64_t owed_[internal::agent::kStreams] = {};
};

// A request that ends where it starts.
class Immediate : public Request {
 public:
  using Request::Done;
  using Request::Fail;
  using Request::Request;
};

class Server {
 public:
  // `is_init`: this process is process 1.
  Server(Loop& loop, bool is_init);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves on this channel from now on and greets.
  void Attach(UniqueFd fd, Channel::Kind kind);
  void Detach();
  bool attached() const { return channel_ != nullptr && !lost_; }
  bool Turn();  // for Loop::before_wait

  Loop& loop() { return loop_; }
  Channel& channel() { return *channel_; }
  bool is_init() const { return is_init_; }

  // For requests.
  void Add(std::unique_ptr<Request> request);
  void Remove(uint64_t id);
  uint64_t NewConnectionId() { return next_connection_ += 2; }
  // True when the host already has as many requests as are allowed.
  bool full() const;
  // How many connections there are that a listener accepted.
  size_t connections() const;

 private:
  void OnFrame(const Frame& frame);
  void OnGreeting(const Message& message, std::string_view body);
  void OnLost();
  void EndSession();
  MessageWriter Hello(uint64_t client) const;

  Loop& loop_;
  const bool is_init_;
  std::unique_ptr<Channel> channel_;
  bool lost_ = false;
  const std::string boot_;  // the kernel's id of this boot; a file that takes a copy of a guest 10 ms to look up
  uint64_t session_ = 0;
  uint64_t client_ = 0;
  uint64_t next_connection_ = 1;
  std::map<uint64_t, std::unique_ptr<Request>> requests_;
  std::vector<std::unique_ptr<Request>> finished_;  // deleted at the end of the turn
};

// Writes a line to the kernel's log when the kernel command line has `mayfly.trace`.
void Trace(const std::string& line);
void EnableTrace();

// Bytes from the kernel's generator, without waiting for it to be seeded.
uint64_t RandomNumber();

// A small file's content; empty when it cannot be read.
std::string ReadSmallFile(const char* path);

}  // namespace mayfly::agent
