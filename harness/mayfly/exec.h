// Commands in a guest.
//
//   ExecResult result = vm.Exec("sqlite3 /data/db 'pragma integrity_check'");   // run by /bin/sh -c
//   EXPECT_EQ(result.out, "ok\n");
//   vm.Exec({"cp", name, "/data/"}).OrThrow();                                  // an argument vector, no shell
//
//   GuestProcess server = vm.Start("kv --foreground");                          // goes on while the test does
//   server.WaitForOutput("listening", 5s);
//   server.Signal(SIGTERM);
//   EXPECT_EQ(server.Wait(5s).signal, SIGTERM);
//
// Output is flow-controlled: a guest that prints faster than the test reads is held up in its write, and what exceeds
// `max_output` is counted and thrown away, so no guest can fill the host's memory.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/deadline.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly {

// A command line for the guest's /bin/sh, or an argument vector.
class Command {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a command reads as the words that it is
  Command(const char* shell) : Command(std::string(shell)) {}
  Command(std::string shell) : argv_{"/bin/sh", "-c", shell}, text_(std::move(shell)) {}
  Command(std::string_view shell) : Command(std::string(shell)) {}
  Command(std::initializer_list<std::string> argv) : Command(std::vector<std::string>(argv)) {}
  Command(std::vector<std::string> argv);
  // NOLINTEND(google-explicit-constructor)

  const std::vector<std::string>& argv() const { return argv_; }
  const std::string& text() const { return text_; }  // for messages

 private:
  std::vector<std::string> argv_;
  std::string text_;
};

struct ExecOptions {
  std::string in{};                                  // standard input, then end of file
  std::map<std::string, std::string> environment{};  // added to the guest's default one (PATH, HOME, LANG)
  std::string user{};                                // name or number in the guest; empty: root
  std::string working_directory{};                   // empty: /
  Duration timeout = std::chrono::seconds(60);       // then SIGKILL to the process group; times MAYFLY_TIMEOUT_FACTOR
  Bytes max_output = Bytes(16 << 20);                // kept of each stream
};

struct ExecResult {
  std::string command{};
  int exit_code = 0;       // meaningless when signal is not 0
  int signal = 0;          // that ended it; 0: it exited
  bool timed_out = false;  // mayfly killed it after its timeout
  std::string out{};
  std::string err{};
  uint64_t dropped = 0;  // bytes of output beyond max_output
  Duration took{};

  bool ok() const { return exit_code == 0 && signal == 0 && !timed_out; }
  // Throws GuestFailed (command, how it ended, the end of its output) unless ok(); else returns this.
  const ExecResult& OrThrow() const&;
  ExecResult OrThrow() &&;
  // "`false` exited with 1 after 3 ms" and the tails of both streams; what GoogleTest prints of a result.
  std::string ToString() const;
  friend void PrintTo(const ExecResult& result, std::ostream* out);
};

enum class Stream { kOut, kErr };

struct StartOptions {
  std::map<std::string, std::string> environment{};
  std::string user{};
  std::string working_directory{};
  bool open_stdin = false;           // true: WriteStdin feeds it until CloseStdin
  bool terminal = false;             // true: on a pseudo-terminal; both outputs come as kOut
  uint16_t rows = 24, columns = 80;  // of the terminal
  Bytes max_output = Bytes(16 << 20);
  // Called for each piece of output, on mayfly's I/O thread, in order; it may block, which holds up the guest's writer,
  // not other requests for long: keep it short. Output given to it is not kept.
  std::function<void(Stream, std::string_view)> on_output{};
};

// A command that runs in the guest. Movable; its destructor kills the command. Thread-safe, except move and destructor.
class GuestProcess {
 public:
  class Impl;
  explicit GuestProcess(std::shared_ptr<Impl> impl);
  GuestProcess(GuestProcess&&) noexcept;
  GuestProcess& operator=(GuestProcess&&) noexcept;
  ~GuestProcess();

  int64_t pid() const;  // in the guest
  // Blocks while the guest does not read. Throws GuestFailed when the process has ended or closed its input.
  void WriteStdin(std::string_view bytes);
  void CloseStdin();
  void Signal(int signal);  // to its process group; nothing once it has ended
  void Resize(uint16_t rows, uint16_t columns);
  std::string out() const;  // so far
  std::string err() const;
  // Blocks until standard output or standard error contains `text`. Throws Timeout (with the tails), GuestFailed when
  // it ends before that.
  void WaitForOutput(std::string_view text, Duration timeout);
  // Blocks until it has ended and all its output is here. Throws Timeout; the command goes on then. Throws VmmDied or
  // GuestFailed when the machine went away under it.
  ExecResult Wait(Duration timeout);
  bool running() const;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace mayfly
