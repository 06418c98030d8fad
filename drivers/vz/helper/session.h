// The helper's end of the control socket: requests in, answers and events out (protocol.h).
#pragma once

#include <mayfly/internal/message_socket.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

namespace mayfly::vz {

class VirtualMachine;

class Session {
 public:
  explicit Session(internal::UniqueFd control);
  ~Session();

  // Serves until the driver has closed the socket. Throws HostLacks for what is no request.
  void Run();

 private:
  void Handle(internal::Message message);
  nlohmann::json Create(internal::Message& message);
  void Send(const nlohmann::json& message);
  void Answer(const nlohmann::json& id, const nlohmann::json& error);

  internal::MessageSocket control_;
  std::mutex sending_;  // answers come on the machine's queue
  std::unique_ptr<VirtualMachine> machine_;
};

}  // namespace mayfly::vz
