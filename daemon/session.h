// One connection to the pool, from the pool's side: a lease and all that is held for it.
//
// Run() answers requests until the client closes, dies or is cut off; the destructor kills the lease's processes and
// removes its sandbox. Requests are rows of a table in session.cc; what they mean is told in pool_protocol.h.
//
// Run by one thread; Info() and CutOff() may be called by any.
#pragma once

#include <mayfly/internal/child_process.h>
#include <mayfly/internal/kill_point.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/sandbox.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "daemon/admission.h"
#include "daemon/fork_pool.h"

namespace mayfly::internal {

class PoolServer;

class Session {
 public:
  Session(PoolServer& pool, int id, UniqueFd socket);
  ~Session();

  void Run();
  // Ends Run() after the request that is being answered, as if the client had closed.
  void CutOff() { socket_.StopReceiving(); }

  // {"lease": 3, "peer": 4242, "program": "kv_test", "name": "kv", "memory": …, "cpus": …, "seconds": …, …}
  nlohmann::json Info() const;

 private:
  struct Operation;
  struct Reply {
    nlohmann::json body = nlohmann::json::object();
    std::vector<int> descriptors{};       // owned by the session
    std::optional<KillPointName> then{};  // passed when it is sent
  };

  void Greet();
  Reply Answer(Message& request);
  Reply Open(Message& request);
  Reply Fork(Message& request);
  Reply Booted(Message& request);
  Reply HandOver(ReadyFork fork, const std::string& from);
  Reply HandOverWarm(const nlohmann::json& request, ReadyFork fork, const std::string& from);
  // Waits for a ticket, and tells the client about it.
  Admission::Ticket Admit(const nlohmann::json& request, const Demand& demand, const std::string& name);
  // For whom, as the request tells it.
  Holder HolderOf(const nlohmann::json& request, const std::string& name) const;
  Reply Start(Message& request);
  Reply Signal(Message& request);
  Reply Poll(Message& request);
  Reply Keep(Message& request);
  Reply Close(Message& request);
  Reply Status(Message& request);
  Reply Watch(Message& request);
  Reply Stop(Message& request);
  Process& ProcessOf(const Message& request);

  PoolServer& pool_;
  const int id_;
  MessageSocket socket_;
  const pid_t peer_;

  mutable std::mutex mutex_;  // of what Info() tells
  nlohmann::json info_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();

  void RefuseSecondLease() const;
  void Opened(const nlohmann::json& what);
  void LetGo();
  KillPointProcesses Processes() const;

  Admission::Ticket ticket_;  // before what it was given for, so that it ends last
  std::optional<Sandbox> sandbox_;
  std::vector<UniqueFd> handed_over_;                  // until the reply has gone
  UniqueFd in_use_;                                    // the template of a fork
  std::map<int, std::unique_ptr<Process>> processes_;  // after the sandbox, so that they go before it
  int next_process_ = 1;
  bool watches_ = false;
};

}  // namespace mayfly::internal
