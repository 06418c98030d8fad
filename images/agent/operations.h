// What a host can ask for: each function starts a request, which may have finished when it returns.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "server.h"

namespace mayfly::agent {

using Start = std::unique_ptr<Request>(Server&, uint64_t id, const Message&, std::string_view body);

Start StartExec;                              // exec.cc
Start StartPut, StartGet, StartStat;          // files.cc
Start StartDial, StartListen;                 // forward.cc
Start StartWait;                              // wait.cc
Start StartSync, StartPowerOff, StartReboot;  // machine.cc
Start StartQuiesce, StartFix;                 // fork.cc

// What the request fix does: gives this copy of a guest a clock, entropy, names and addresses of its own.
internal::agent::FileError MakeOwn(const Message& message, std::string_view entropy);  // fork.cc
// What of that can wait until the host has its answer.
void AfterTurn();

}  // namespace mayfly::agent
