// Runs the tests of the conformance program, each in a process of its own.
//
//   ConformanceRunner runner({.program = ConformanceProgram(), .driver = "qemu", .jobs = 2});
//   runner.Run([](const CellResult& result, size_t done, size_t all) { … });   // called for one result at a time
//   runner.run().results …
//
// Nothing that a test does ends the run: when it crashes, hangs, leaves a process or prints without end, its result is
// "fail" with the reason, and the next one starts. What this host cannot show is told without starting a process.
//
// RequestStop may be called at any time, from a signal handler too: the tests that run are ended, those that have not
// begun stay "not_run", and Run returns.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/host_view.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/sandbox.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "cli/conformance_record.h"

namespace mayfly::cli {

// The program with the scenarios: $MAYFLY_CONFORMANCE, else that of the build or installation. Throws HostLacks.
std::filesystem::path ConformanceProgram();

// Its scenarios. Throws HostLacks when it does not list them.
std::vector<CellCase> ListCases(const std::filesystem::path& program);

// Whether a pattern of --filter means this case: glob patterns with * and ?, separated by ':', of the capability's id
// or of "<capability>.<case>"; an empty one means all.
bool Matches(std::string_view filter, const CellCase& of);

struct RunnerOptions {
  std::filesystem::path program{};
  std::vector<CellCase> cases{};
  std::filesystem::path directory{};                  // for logs/ and artefacts/
  size_t jobs = 1;                                    // at least 1
  Duration timeout = std::chrono::seconds(240);       // for each test
  Duration after_timeout = std::chrono::seconds(15);  // more, for the test to end by itself and write its artefacts
  Duration for_leftovers = std::chrono::seconds(10);  // for the processes that end with a test
  Bytes output_limit = Bytes(uint64_t{64} << 20);
};

class ConformanceRunner {
 public:
  using Progress = std::function<void(const CellResult& result, size_t done, size_t all)>;

  ConformanceRunner(RunnerOptions options, const internal::HostView& view);
  ConformanceRunner(const ConformanceRunner&) = delete;
  ConformanceRunner& operator=(const ConformanceRunner&) = delete;

  // True: all have been run.
  bool Run(const Progress& progress);
  void RequestStop() noexcept;

  const std::vector<CellResult>& results() const { return results_; }

 private:
  void Work(const Progress& progress);
  void RunOne(CellResult& result, size_t number);
  std::string Watch(class TestProcess& test, CellResult& result) const;
  bool stopped() const;

  RunnerOptions options_;
  const internal::HostView& view_;
  Sandbox sandbox_ = Sandbox::Create("c");  // its tests' runtime directories; a short name, for the sockets in them
  internal::UniqueFd stop_;                 // an eventfd; readable: stop
  std::vector<CellResult> results_;
  std::atomic<size_t> next_ = 0;
  std::mutex told_;
  size_t done_ = 0;
};

}  // namespace mayfly::cli
