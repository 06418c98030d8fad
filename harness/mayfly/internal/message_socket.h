// Messages with descriptors over a connected unix stream socket: how test processes and mayflyd speak.
//
// A message is a JSON object, sent as CBOR behind its length (4 bytes, little endian), and up to kMaxDescriptors open
// descriptors (SCM_RIGHTS) that travel with its first byte:
//
//   MessageSocket client(ConnectTo(path));
//   client.Send({{"op", "start"}}, {pipe.get()}, Deadline::After(5s));
//   std::optional<Message> reply = client.Receive(Deadline::After(5s));      // nothing: the other end has closed
//
// Neither side trusts the other: a frame that is too long, no CBOR, no object or has lost descriptors is an error
// (HostLacks), and every received descriptor is closed on exec. One thread at a time sends, one receives.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/errors.h>
#include <mayfly/internal/unique_fd.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mayfly::internal {

constexpr size_t kMaxMessage = size_t{4} << 20;
constexpr size_t kMaxDescriptors = 64;

// The other end of a connection has closed it, or died.
class PeerGone : public HostLacks {
 public:
  using HostLacks::HostLacks;
};

struct Message {
  nlohmann::json body{};
  std::vector<UniqueFd> descriptors{};
};

class MessageSocket {
 public:
  explicit MessageSocket(UniqueFd socket) : socket_(std::move(socket)) {}

  // Throws PeerGone when the other end has closed, Timeout when it does not take the message.
  void Send(const nlohmann::json& body, std::span<const int> descriptors, Deadline deadline);
  void Send(const nlohmann::json& body, Deadline deadline) { Send(body, {}, deadline); }

  // The next message; nothing when the other end has closed between messages. Throws Timeout, PeerGone, and HostLacks
  // for what is no message.
  std::optional<Message> Receive(Deadline deadline);

  // Wakes whoever waits for a message here, who then sees the other end closed. What is sent still arrives.
  // Thread-safe.
  void StopReceiving();

  int fd() const { return socket_.get(); }

 private:
  void WaitUntil(short events, Deadline deadline) const;
  // Fills `bytes`; false when the other end has closed before the first of them.
  bool ReadExactly(std::span<unsigned char> bytes, std::vector<UniqueFd>& descriptors, Deadline deadline);

  UniqueFd socket_;
};

// A pair of connected stream sockets. Throws HostLacks when there are no descriptors left.
std::pair<UniqueFd, UniqueFd> SocketPair();

// The user id of the process at the other end.
uid_t PeerUser(int socket);
pid_t PeerProcess(int socket);

}  // namespace mayfly::internal
