// The mayfly command as its users start it, for tests.
//
//   Outcome outcome = RunMayfly({"image", "list"});
//   EXPECT_EQ(outcome.status.code, 0);
//
//   StartedMayfly mayfly({"run", "--", "sh"}, {.open_input = true});
//   mayfly.Type("echo hello\n");
//   EXPECT_TRUE(mayfly.WaitForOut("hello"));
//   mayfly.CloseInput();
//   Outcome outcome = mayfly.Wait();
//
// Each has a runtime directory of its own, in which nothing and nobody may be left: see Leftovers.
#pragma once

#include <fcntl.h>
#include <mayfly/deadline.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/console_log.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/test_leftovers.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mayfly::cli {

struct Outcome {
  internal::ExitStatus status{};
  std::string out{};
  std::string err{};
};

struct RunOptions {
  std::string input{};               // standard input, then end of file
  bool open_input = false;           // instead: what Type writes, until CloseInput
  std::filesystem::path terminal{};  // instead of all three streams: a terminal
  std::filesystem::path out{};       // instead of a file that the test reads
  std::filesystem::path runtime{};   // instead of a runtime directory of its own
  std::vector<std::pair<std::string, std::string>> environment{};
  Duration timeout = std::chrono::seconds(60);
};

class StartedMayfly {
 public:
  explicit StartedMayfly(std::vector<std::string> words, const RunOptions& options = {})
      : runtime_(options.runtime.empty() ? directory_ / "rt" : options.runtime), timeout_(options.timeout) {
    const char* binary = std::getenv("MAYFLY_BINARY");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
    if (binary == nullptr) throw std::runtime_error("MAYFLY_BINARY is not set: run this test by ctest");
    words.insert(words.begin(), binary);
    std::filesystem::path in = directory_ / "in";
    if (options.open_input) {
      // Opened for both, so that neither side waits for the other.
      if (mkfifo(in.c_str(), 0600) != 0) throw std::runtime_error("cannot make " + in.string());
      input_.Reset(open(in.c_str(), O_RDWR | O_CLOEXEC));
    } else {
      internal::WriteWholeFile(in, options.input);
    }
    internal::ChildOptions child{.argv = std::move(words),
                                 .stdin_path = in,
                                 .stdout_path = options.out.empty() ? directory_ / "out" : options.out,
                                 .stderr_path = directory_ / "err",
                                 .environment = options.environment};
    if (!options.terminal.empty()) child.stdin_path = child.stdout_path = child.stderr_path = options.terminal;
    child.environment.emplace_back("MAYFLY_RUNTIME_DIR", runtime().string());
    child.environment.emplace_back("MAYFLY_POOL", "off");
    process_ = std::make_unique<internal::ChildProcess>(std::move(child));
  }

  internal::ChildProcess& process() { return *process_; }
  const std::filesystem::path& runtime() const { return runtime_; }

  void Type(std::string_view text) { internal::WriteAll(input_, text, "standard input"); }
  void CloseInput() { input_.Reset(); }

  bool WaitForOut(std::string_view text) { return out_.WaitFor(text, Deadline::After(Scaled(timeout_))); }
  bool WaitForErr(std::string_view text) { return err_.WaitFor(text, Deadline::After(Scaled(timeout_))); }
  std::string out() const { return out_.Text(); }
  std::string err() const { return err_.Text(); }

  // Throws Timeout.
  Outcome Wait() { return {process_->Wait(Deadline::After(Scaled(timeout_))), out(), err()}; }

  // What is left of it: processes, files, mounts, a line each. Gives those that are ending the time to.
  std::string Leftovers() const { return internal::LeftoversOf(runtime()); }

 private:
  internal::TestDirectory directory_;
  std::filesystem::path runtime_;
  Duration timeout_;
  internal::UniqueFd input_;
  internal::ConsoleLog out_{directory_ / "out", nullptr};
  internal::ConsoleLog err_{directory_ / "err", nullptr};
  std::unique_ptr<internal::ChildProcess> process_;
};

inline Outcome RunMayfly(std::vector<std::string> words, const RunOptions& options = {}) {
  return StartedMayfly(std::move(words), options).Wait();
}

}  // namespace mayfly::cli
