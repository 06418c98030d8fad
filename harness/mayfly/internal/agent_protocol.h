// The protocol between the host and the guest agent, version 2. Both sides are built from this header.
//
// The channel is one byte stream each way (a virtio-serial port, a vsock or unix connection). It may lose its peer at
// any time, keep bytes that a dead peer wrote, and begin in the middle of a frame. So:
//
// Frame (numbers are little endian)
//   u32 magic    "MFLY"; a greeting has "MFHI"
//   u32 header   bytes of the header, 1 to 65536
//   u32 body     bytes of the body, 0 to 262144
//   u32 check    the low half of XXH64(header bytes, seed = header << 32 | body)
//   header       a CBOR map from text to unsigned, negative, bool or text; never nested (see agent_message.h)
//   body         raw bytes: bulk data never passes through CBOR
// A reader that finds anything else skips a byte and looks for the next magic (agent_frame.h).
//
// Greetings and sessions
//   hello?  host → guest  {client}             who is there? `client` is random, one for each connection of a host
//                         {client, fix, …}     the same, to a copy of a guest: with the fields and the body of the
//                                              request fix (below), which is done before anything else
//   hello   guest → host  {client, session, protocol, version, boot, kernel, hostname, init}
//                         {…, errno, text}     that could not be done
// The agent says hello with client 0 when it starts, and answers each hello? with its client. Who greets says nothing
// more until it is answered, so a greeting at the very end of what was read also ends a half frame that a dead peer
// left; for that its body ends with its length and the mark "MFEN". `session` is random. The agent makes a new one when
// it starts and when it meets another client; then all that ran for the old one is killed and removed. Every frame of
// the host carries it; the agent drops frames of other sessions (a request from before a reboot may still sit in a
// buffer of the VMM). A host that sees a new session fails what waits in the old one.
//
// Requests: host → guest {t, s: session, id}, several at once, told apart by `id` (even numbers, never used twice in a
// session). Each ends with one of `done`, `error {errno, text}` or, for exec, `exit`.
//   exec      {argc, user, cwd, timeout, stdin, pty, rows, columns, pid, again} body: argv, then environment, each with
//   a NUL
//               → started {pid} if `pid`, data, then exit {code | signal, timeout}. Milliseconds; 0 is no timeout.
//               eof {st: 0} from the guest: the command closed its standard input.
//               `again` > 0: until it succeeds, run it again that many ms after it failed (→ again {code | signal}:
//               forget the output so far); after `timeout` the try is killed, and exit tells of the try before it.
//   put       {path} → the host sends entry, data, end and eof → done {bytes}
//   get       {path, limit} → entry, data, end, done. `limit`: no more bytes of content than that (EFBIG)
//   stat      {path} → done {kind, size, mode, uid, gid}
//   dial      {port} → ready; data and eof both ways, then done: a connection to the guest's loopback
//   listen    {port} → ready {port}; for each connection: accept {id of listen, conn: an odd id for its data and eof}
//   wait      {what: file | port | unit, name, port, timeout} → done
//   sync, poweroff, reboot → done
//   quiesce   → done: every other process stands still, for a copy to be made of the guest
//   fix       {time: ns since 1970, hostname, machine, macs: lines "OLD NEW"} body: random bytes → done; what quiesce
//             stopped goes on. Empty: stays as it is
// Both ways, for a request that runs:
//   data      {id, st} body              bytes of stream `st`
//   entry     {id, st, kind: file | dir | link, name, mode, mtime, target} body: the first piece of a file
//   end       {id, st, sum}              of a file; `sum` is the XXH64 of its content
//   eof       {id, st}                   no more on that stream
//   credit    {id, st, n}                `n` more may be sent on it
//   signal {id, signal}, resize {id, rows, columns}, cancel {id}    host → guest
// Streams: 0 to the guest, 1 from it (standard output, files), 2 standard error.
//
// Credit: a sender may have kWindow (files: kFileWindow) charged and not yet given back on each stream; a frame of
// data, entry or end costs its body plus kFrameCost. Who exceeds it breaks the protocol. So a reader's memory is
// bounded, a writer that is ahead is held up in its write(2), and a slow stream holds up no other one.
//
// Files: a sequence of entries in which each name is relative to `path` ("" is path itself, a file or a directory, and
// comes first) and comes after its directory's. A file's first bytes are in its entry, more follow as data until its
// end. Names with empty, "." or ".." parts or a leading '/' are refused by the receiver, which never follows a symbolic
// link below `path` (file_stream.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mayfly::internal::agent {

inline constexpr uint32_t kProtocolVersion = 2;
inline constexpr std::string_view kPortName = "org.mayfly.agent";

inline constexpr uint32_t kMagic = 0x594C464D;          // "MFLY"
inline constexpr uint32_t kGreetingMagic = 0x4948464D;  // "MFHI"
inline constexpr uint32_t kGreetingEnd = 0x4E45464D;    // "MFEN"
inline constexpr size_t kGreetingTail = 8;              // length and mark
inline constexpr size_t kFixedHeader = 16;
inline constexpr size_t kMaxHeader = 64 << 10;
inline constexpr size_t kMaxBody = 256 << 10;
inline constexpr size_t kMaxFrame = kFixedHeader + kMaxHeader + kMaxBody;
inline constexpr size_t kMaxGreeting = 4096;

inline constexpr int64_t kWindow = 256 << 10;
inline constexpr int64_t kFileWindow = 2 << 20;
inline constexpr int64_t kFrameCost = 256;
inline constexpr size_t kFilePiece = 128 << 10;  // body of a data frame of a file

inline constexpr int kStreams = 3;
inline constexpr int kToGuest = 0;
inline constexpr int kFromGuest = 1;
inline constexpr int kStandardError = 2;

inline constexpr size_t kMaxRequests = 1024;    // at once, for each side
inline constexpr size_t kMaxConnections = 256;  // at once, of one `listen`

// Keys that more than one kind of message has.
namespace key {
inline constexpr std::string_view kType = "t";
inline constexpr std::string_view kSession = "s";
inline constexpr std::string_view kId = "id";
inline constexpr std::string_view kStream = "st";
}  // namespace key

}  // namespace mayfly::internal::agent
