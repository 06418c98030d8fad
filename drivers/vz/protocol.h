// What the driver and its helper, mayfly-vz, say to each other.
//
// `mayfly-vz probe` prints a JSON object and ends. `mayfly-vz serve` has a connected unix stream socket as descriptor 3
// and runs one virtual machine; it ends when the socket's other end does. There, messages of message_socket.h are sent:
//
//   {"event": "hello", "protocol": 1}                                        first, by the helper
//   {"id": 1, "op": "create", "cpus": 2, …} and descriptors                  by the driver
//   {"id": 1, "result": {…}}  or  {"id": 1, "error": {"class": "BadSpec", "summary": …, "notes": […]}}
//   {"event": "state", "state": "running"}                                   by the helper, at each change
//   {"event": "stopped"}  or  {"event": "stopped", "error": {…}}             the guest's end, if nobody asked for it
//
// Operations: create (the machine; once), start, stop (as a power cut), request_stop (the power button), reset, pause,
// resume, balloon ("memory"). Each is answered when it is done; several may be under way.
#pragma once

namespace mayfly::vz {

inline constexpr int kProtocolVersion = 1;
inline constexpr int kControlDescriptor = 3;

}  // namespace mayfly::vz
