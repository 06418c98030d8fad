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

}  // namespace mayfly::agent
