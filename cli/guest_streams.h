// The streams between this process and a command in the guest.
//
//   OutputStreams output;                                   // before the command starts
//   options.on_output = [&output](Stream stream, std::string_view bytes) { output.Write(stream, bytes); };
//   GuestProcess process = vm.Start(command, options);
//   InputStreams input(process, output, {.standard_input = true, .window_size = terminal});
//   process.Wait(…);                                        // or output.Stop() first, to wait for it no longer
//   input.Stop();
//   output.failure();                                       // 0, or why standard output or error took no more
#pragma once

#include <mayfly/exec.h>
#include <mayfly/internal/unique_fd.h>

#include <atomic>
#include <string_view>
#include <thread>

namespace mayfly::cli {

// Writes the guest's output to standard output and standard error as it comes; a reader that is slow holds the guest
// up. After the first failure (a full disk, a reader that went away) everything is dropped.
class OutputStreams {
 public:
  // Throws HostLacks when no pipe is to be had.
  OutputStreams();

  void Write(Stream stream, std::string_view bytes);

  // Drops what is not written by now, and all that comes: for the end of a VM whose output nobody reads. Thread-safe.
  void Stop() { stop_.Reset(); }

  // errno of the first write that failed; 0: none.
  int failure() const { return failure_; }
  // Readable once a write has failed.
  int failed_fd() const { return failed_.get(); }

 private:
  internal::UniqueFd failed_;
  internal::UniqueFd fail_;
  internal::UniqueFd stopped_;
  internal::UniqueFd stop_;
  std::atomic<int> failure_{0};
};

// What goes to the command meanwhile: standard input until it ends, the terminal's new size when its window changes,
// and SIGKILL when its output can no longer be written.
class InputStreams {
 public:
  struct Options {
    bool standard_input = false;
    bool window_size = false;
  };
  // `process` and `output` live longer than this.
  InputStreams(GuestProcess& process, const OutputStreams& output, Options options);
  ~InputStreams();

  // Ends both threads. The process has ended, so neither is held up by it.
  void Stop();

 private:
  void Feed();
  void Watch(int failed_fd);

  GuestProcess& process_;
  internal::UniqueFd stopped_;
  internal::UniqueFd stop_;
  internal::UniqueFd window_;
  std::thread feeder_;
  std::thread watcher_;
};

}  // namespace mayfly::cli
