// A command of the guest with a vsock stream as its standard input and output: what socat does, in guests that have
// none.
#pragma once

#include <string_view>

namespace mayfly::agent {

// `role` "listen": waits for one connection to this port of the guest; "connect": connects to this port of the host.
// Then becomes the command. Returns, with errno set, only when something of that fails.
void RunOverVsock(std::string_view role, unsigned port, char** command);

}  // namespace mayfly::agent
