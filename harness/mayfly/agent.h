// The agent in a guest, as the host sees it.
//
// An Agent owns the connected stream to the program `mayfly-agent` in one running guest and offers what it can do:
// commands, files, ports, waits, power. Vm is a thin layer on it; use it directly to talk to a guest that something
// else started.
//
//   Agent agent(machine.ConnectAgent(), machine.timeline(), {.name = "kv-7f3a", .transcript =
//   sandbox.Path("agent.log")}); agent.WaitForHello(Deadline::After(10s)); agent.Exec("uname -r").OrThrow();
//
// The guest may restart while the Agent is connected: then everything that was asked of the old one fails with
// GuestFailed
// ("the guest restarted"), and WaitForHello with the old session waits for the new one. The guest is not trusted:
// whatever it sends is checked and bounded, and when it breaks the protocol the connection ends with GuestFailed.
//
// Functions block until the guest has answered. They throw GuestFailed (naming guest, operation and the guest's
// reason), Timeout when it does not answer in time, and once the connection has ended, its reason. All but the
// destructor may be called from any thread, except from GuestProcess's on_output: that runs on the thread that would
// bring the answer.
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mayfly/bytes.h>
#include <mayfly/deadline.h>
#include <mayfly/events.h>
#include <mayfly/exec.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/vm.h>

namespace mayfly {

class GuestFailed;

namespace internal {
class AgentConnection;
}

// Who answered.
struct AgentHello {
  uint64_t session = 0;  // random; another one after each restart of guest or agent
  uint32_t protocol = 0;
  std::string version;  // of the agent
  std::string boot_id;  // of the guest's kernel
  std::string kernel;   // release, "6.1.0-32-cloud-amd64"
  std::string hostname;
  bool init = false;  // the agent is process 1
};

// What distinguishes a copy of a guest from its siblings. What is empty stays as it is.
struct GuestIdentity {
  std::string hostname{};
  std::string machine_id{};                                 // 32 hexadecimal digits
  std::vector<std::pair<std::string, std::string>> macs{};  // of interfaces: {the one it has, the one that it gets}
};

// What two Agents of one channel share, one after the other: whom the guest's agent has greeted, and as what.
struct AgentSession {
  uint64_t client = 0;
  uint64_t last_request = 0;
  AgentHello hello{};
};

struct AgentOptions {
  std::string name;                  // of the VM, for messages
  std::filesystem::path transcript;  // a line for each request and its outcome, at most 4 MiB; empty: none
  // The guest is a copy, which becomes this one before it answers (see FixUp); nothing: it is greeted as it is. Done
  // once: what restarts later is no copy any more.
  std::optional<GuestIdentity> copy{};
  // Goes on with what another Agent of this channel has released: the guest is not greeted again.
  std::optional<AgentSession> session{};
  // Called with what a GuestProcess is about to throw, on the thread that waited: who knows what became of the machine
  // throws that instead. Not called once the Agent is gone.
  std::function<void(const GuestFailed&)> explain{};
};

class Agent {
 public:
  // Takes a connected stream socket over, or a listening one to which guests connect, one after the other; then this
  // is connected until the listener is shut down. The timeline outlives this.
  Agent(internal::UniqueFd socket, Timeline& timeline, AgentOptions options);
  // Disconnects. No other thread uses this any more.
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Waits until an agent has answered whose session is not `other_than` (0: any). A copy that took long to answer is
  // told the time again, which had been on its way.
  AgentHello WaitForHello(Deadline deadline, uint64_t other_than = 0);
  // The last one that answered; nothing before the first, and between a restart and the next.
  std::optional<AgentHello> hello() const;

  // Ends the connection: all that waits, and every later call, throws `reason` (an Error) with a note on what it did.
  void Disconnect(const std::exception_ptr& reason);
  bool connected() const;
  // Called once when the connection ends (the VMM closed it, the guest broke the protocol, Disconnect), on mayfly's I/O
  // thread; at once, on this thread, when it has ended already. The argument is the reason in one line.
  void OnClosed(std::function<void(const std::string& reason)> callback);

  // --- Commands: see exec.h ------------------------------------------------------------------------------------------
  ExecResult Exec(const Command& command, const ExecOptions& options = {});
  GuestProcess Start(const Command& command, const StartOptions& options = {});
  // Runs the command again and again, 50 ms after each end, until it exits with 0. Throws Timeout with the last result.
  ExecResult WaitUntilSucceeds(const Command& command, Duration timeout);

  // --- Files: see Vm -------------------------------------------------------------------------------------------------
  void Upload(const std::filesystem::path& from, std::string_view to);
  void Download(std::string_view from, const std::filesystem::path& to);
  std::string ReadFile(std::string_view path, Bytes limit);
  void WriteFile(std::string_view path, std::string_view content, uint32_t mode);
  std::optional<GuestFile> Stat(std::string_view path);  // of a symbolic link itself

  // --- Ports. Forwarding ends with the PortForward, and with this ----------------------------------------------------
  PortForward ForwardToGuest(uint16_t guest_port);
  PortForward ForwardToHost(uint16_t host_port, uint16_t guest_port);

  // --- Waits, on events in the guest ---------------------------------------------------------------------------------
  void WaitForPort(uint16_t port, Duration timeout);
  void WaitForFile(std::string_view path, Duration timeout);
  void WaitForUnit(std::string_view unit, Duration timeout);

  // --- The guest as a whole ------------------------------------------------------------------------------------------
  void Sync();
  // These two return when the guest has agreed; the machine then goes down by itself.
  void PowerOff(Deadline deadline);
  void Reboot(Deadline deadline);
  // Before a copy of the guest is made: stops every process but the agent (and process 1), so that none of them goes on
  // in a copy before the copy has entropy of its own. FixUp lets them go on, in the guest itself and in each copy.
  void Quiesce();
  // The guest's clock is set to the host's, its random numbers differ from those of its siblings from now on, and it is
  // called and addressed as told.
  void FixUp(const GuestIdentity& identity = {});

  // Takes the channel back, for another Agent, maybe in another process; with the session (AgentOptions::session) it
  // need not greet the guest. Nothing may be under way; this object is not connected any more.
  struct Released {
    internal::UniqueFd channel{};
    std::optional<AgentSession> session{};  // nothing: the guest has to be greeted
  };
  Released Release();

 private:
  std::shared_ptr<internal::AgentConnection> connection_;
};

}  // namespace mayfly
