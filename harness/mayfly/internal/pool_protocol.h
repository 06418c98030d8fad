// What test processes and mayflyd say to each other.
//
// A connection is a lease: it is opened by one process for one VM, and all that mayflyd holds for it goes when it
// closes. The client asks, one request at a time; each request is an object with the member "op", each reply has what
// the table says or the member "error". While a request waits for room on the host, objects with the member "waiting"
// come before its reply: {"waiting": {"text": "waiting for 2 GiB: …", "lacks": "memory", "holders": […], …}}.
//
// | op | members | reply |
// | --- | --- | --- |
// | hello | protocol, version, program | protocol, version, pid |
// | open | name, memory (bytes), cpus; overhead (bytes, of the VMM), copy (counts as a fork), wait (seconds; forever),
// thread (who waits) |
//   directory (the VM's sandbox) |
// | fork | template (directory), name, wait, thread | directory, driver, record, session (of the agent), process, pid,
//   and a pidfd, the agent's channel and the driver's own descriptors (ReleasedMachine) |
// | booted | driver, spec (JSON without a name), identity (Driver::CopyIdentity), and as open | as fork; or just
// "none": no
//   such VM is kept ready |
// | start | options (see ToJson(ChildOptions)), and the descriptors to inherit | process, pid, and a pidfd |
// | signal | process, signal | – |
// | poll | process | code and signal, once it has ended |
// | keep | – | – : the sandbox stays when the lease ends |
// | close | – | – : all that the lease held is gone |
// | status | – | what mayflyd holds, for `mayfly pool status`; its "change" is a number that stands for it |
// | watch | seen (such a number; 0 for none) | as status, once the number is another one |
// | stop | – | – : mayflyd ends every lease and leaves |
#pragma once

#include <mayfly/agent.h>
#include <mayfly/errors.h>
#include <mayfly/internal/process.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace mayfly::internal {

// Raised when a message changes its meaning. Clients and daemons of different protocols do not meet: it is a part of
// the socket's name.
constexpr int kPoolProtocol = 5;

nlohmann::json ToJson(const ChildOptions& options);
// `descriptors` are those that came with the message, in the order of options.inherit.
ChildOptions ChildOptionsFromJson(const nlohmann::json& json, const std::vector<UniqueFd>& descriptors);

nlohmann::json ToJson(const std::optional<AgentSession>& session);
std::optional<AgentSession> AgentSessionFromJson(const nlohmann::json& json);

nlohmann::json ToJson(const Error& error);
// Throws the error that ToJson was given, with its class.
[[noreturn]] void ThrowFromJson(const nlohmann::json& json);

}  // namespace mayfly::internal
