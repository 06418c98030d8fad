// What a copy of a guest is told before anything else: the message that both the greeting of a copy and the request
// `fix` carry (agent_protocol.h).
#pragma once

#include <mayfly/agent.h>
#include <mayfly/internal/agent_message.h>

#include <string>
#include <string_view>

namespace mayfly::internal {

// For messages: "'tiny-7f3a': cannot set clock, entropy and identity: …".
inline constexpr std::string_view kFixing = "set clock, entropy and identity";

// Adds the fields to `message`, the host's time of now among them, and returns the body: random bytes.
std::string AddFix(agent::MessageWriter& message, const GuestIdentity& identity);

}  // namespace mayfly::internal
