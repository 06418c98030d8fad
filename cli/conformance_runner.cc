#include "cli/conformance_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/host_processes.h>
#include <mayfly/internal/installed_program.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::ExitStatus;
using internal::UniqueFd;
using nlohmann::json;

constexpr int kSkipped = 77;                      // exit code of a test that was skipped
constexpr size_t kKeptOfLog = size_t{256} << 10;  // of its beginning, and of its end
constexpr Duration kForExit = std::chrono::seconds(10);

// The beginning and the end of what a test prints.
class Log {
 public:
  void Add(std::string_view bytes) {
    size_ += bytes.size();
    size_t to_head = std::min(bytes.size(), kKeptOfLog - head_.size());
    head_ += bytes.substr(0, to_head);
    tail_ += bytes.substr(to_head);
    if (tail_.size() > 2 * kKeptOfLog) tail_.erase(0, tail_.size() - kKeptOfLog);
  }
  uint64_t size() const { return size_; }
  std::string Text() const {
    uint64_t left_out = size_ - head_.size() - tail_.size();
    if (left_out == 0) return head_ + tail_;
    return fmt::format("{}\n[… {} bytes left out …]\n{}", head_, left_out, tail_);
  }

 private:
  std::string head_{};
  std::string tail_{};
  uint64_t size_ = 0;
};

std::string CommandOf(pid_t pid) {
  std::ifstream stream(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(stream, name);
  return fmt::format("{} ({})", name, pid);
}

// Gives what a test has started the time to end, then ends it. Returns what had to be ended.
std::vector<std::string> EndLeftovers(const std::string& runtime, Duration patience) {
  Deadline deadline = Deadline::After(Scaled(patience));
  std::vector<std::string> ended;
  auto started = [&] { return internal::ProcessesThatKnow(runtime, {"environ"}); };
  for (std::vector<pid_t> alive = started(); !alive.empty(); alive = started()) {
    UniqueFd pidfd = internal::OpenPidFd(alive.front());
    if (!pidfd) continue;  // it has just gone
    pollfd gone{pidfd.get(), POLLIN, 0};
    if (poll(&gone, 1, deadline.RemainingForPoll()) > 0) continue;
    ended.push_back(CommandOf(alive.front()));
    syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    poll(&gone, 1, -1);
  }
  return ended;
}

std::string FileNameFor(const CellCase& of) {
  std::string name = of.test;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-') c = '_';
  }
  return name.substr(0, 180);
}

// Takes over what the test wrote about itself. Nothing: it wrote nothing that can be read.
bool ReadResult(const fs::path& file, CellResult& result) {
  std::ifstream stream(file);
  json all = json::parse(stream, nullptr, false);
  if (all.is_discarded()) return false;
  // The only test of the only suite.
  constexpr const char* kPlace = "/testsuites/0/testsuite/0";
  if (!all.contains(json::json_pointer(kPlace))) return false;
  const json* test = &all.at(json::json_pointer(kPlace));
  result.outcome = test->value("mayfly_outcome", "fail");
  result.reason = test->value("mayfly_reason", "");
  const json failures = test->value("failures", json::array());
  for (const json& failure : failures) {
    if (!result.reason.empty()) result.reason += "\n";
    result.reason += failure.value("failure", "");
  }
  for (const char* fact : {"vmm", "machine", "accelerator", "image"}) {
    std::string value = test->value(fmt::format("mayfly_{}", fact), "");
    if (!value.empty()) result.facts[fact] = value;
  }
  return true;
}

}  // namespace

// One test's process, with the pipe of its output.
class TestProcess {
 public:
  explicit TestProcess(internal::ChildOptions options) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw HostLacks({.summary = "cannot make a pipe"});
    output.Reset(ends[0]);
    UniqueFd writing(ends[1]);
    fcntl(output.get(), F_SETFL, O_NONBLOCK);
    options.stdout_path = options.stderr_path = fmt::format("/proc/self/fd/{}", writing.get());
    process = std::make_unique<internal::ChildProcess>(std::move(options));
  }

  // What is there to be read now. False: nothing, and nothing will come.
  bool Drain() {
    std::array<char, 65536> buffer{};
    for (;;) {
      ssize_t size = read(output.get(), buffer.data(), buffer.size());
      if (size <= 0) return size < 0 && errno == EAGAIN;
      log.Add({buffer.data(), static_cast<size_t>(size)});
      if (log.size() > limit) return true;
    }
  }

  UniqueFd output;
  std::unique_ptr<internal::ChildProcess> process;
  Log log;
  uint64_t limit = UINT64_MAX;
};

fs::path ConformanceProgram() { return internal::InstalledProgram("mayfly-conformance", "MAYFLY_CONFORMANCE"); }

std::vector<CellCase> ListCases(const fs::path& program) {
  internal::CommandOutput listed = internal::RunCommand({program.string(), "--list-cases"}, std::chrono::seconds(60));
  json all = json::parse(listed.out, nullptr, false);
  if (!listed.status.ok() || !all.is_array()) {
    throw HostLacks({.summary = fmt::format("conformance: {} --list-cases: {}", program.string(),
                                            listed.status.ok() ? "no JSON" : listed.status.ToString()),
                     .notes = {listed.out.substr(0, 2000)}});
  }
  std::vector<CellCase> cases;
  for (const json& each : all) {
    cases.push_back({.test = each.at("test"),
                     .driver = each.at("driver"),
                     .capability = each.at("capability"),
                     .claim = each.at("claim"),
                     .kind = each.at("kind"),
                     .needs = each.at("needs")});
  }
  return cases;
}

bool Matches(std::string_view filter, const CellCase& of) {
  if (filter.empty()) return true;
  std::string name = of.test.substr(std::min(of.test.size(), std::string("conformance." + of.driver + ".").size()));
  while (true) {
    size_t end = std::min(filter.find(':'), filter.size());
    std::string pattern(filter.substr(0, end));
    for (const std::string& text : {of.capability, name}) {
      if (fnmatch(pattern.c_str(), text.c_str(), 0) == 0) return true;
    }
    if (end == filter.size()) return false;
    filter.remove_prefix(end + 1);
  }
}

ConformanceRunner::ConformanceRunner(RunnerOptions options, const internal::HostView& view)
    : options_(std::move(options)), view_(view), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  fs::create_directories(options_.directory / "logs");
  for (const CellCase& of : options_.cases) {
    const internal::MatrixRow* row = view_.matrix().Find(of.capability);
    if (row == nullptr || !row->cells.contains(of.driver)) {
      throw BadSpec({.summary = fmt::format("conformance: the matrix has no cell {} of {}", of.capability, of.driver)});
    }
    results_.push_back({.of = of, .status = std::string(internal::RowOf(row->cells.at(of.driver).status).name)});
  }
}

void ConformanceRunner::RequestStop() noexcept {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(stop_.get(), &one, sizeof one);
}

bool ConformanceRunner::stopped() const {
  pollfd stop{stop_.get(), POLLIN, 0};
  return poll(&stop, 1, 0) > 0;
}

bool ConformanceRunner::Run(const Progress& progress) {
  std::vector<std::thread> workers;
  for (size_t i = 0; i < std::max<size_t>(options_.jobs, 1); ++i) {
    workers.emplace_back([this, &progress] { Work(progress); });
  }
  for (std::thread& worker : workers) worker.join();
  return std::none_of(results_.begin(), results_.end(),
                      [](const CellResult& result) { return result.outcome == "not_run"; });
}

void ConformanceRunner::Work(const Progress& progress) {
  for (size_t i = next_++; i < results_.size() && !stopped(); i = next_++) {
    CellResult& result = results_[i];
    std::string lacks;
    auto add = [&](const internal::Lack& lack) {
      lacks += fmt::format("{}{}{}{}", lacks.empty() ? "" : "\n", lack.reason, lack.fix.empty() ? "" : "; ", lack.fix);
    };
    for (const internal::Lack& lack : view_.LacksOf(result.of.driver, result.of.capability)) add(lack);
    for (const std::string& need : result.of.needs) {
      if (std::optional<internal::Lack> lack = view_.LackOf(need)) add(*lack);
    }
    if (lacks.empty()) {
      try {
        RunOne(result, i);
      } catch (const std::exception& error) {
        result.outcome = "fail";
        result.reason = error.what();
      }
    } else {
      result.outcome = "not_verified";
      result.reason = lacks;
    }
    std::lock_guard lock(told_);
    progress(result, ++done_, results_.size());
  }
}

// Waits for the end of a test. Returns why it was ended before; empty: it was not.
std::string ConformanceRunner::Watch(TestProcess& test, CellResult& result) const {
  Deadline deadline = Deadline::After(Scaled(options_.timeout) + options_.after_timeout);
  bool open = true;
  for (;;) {
    std::array<pollfd, 3> fds = {
        {{test.process->pidfd(), POLLIN, 0}, {open ? test.output.get() : -1, POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    int ready = poll(fds.data(), fds.size(), deadline.RemainingForPoll());
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return fmt::format("it was not done after {}", ForPeople(options_.timeout));
    if (fds[1].revents != 0) open = test.Drain();
    if (test.log.size() > options_.output_limit.count()) {
      return fmt::format("it printed more than {}", ForPeople(options_.output_limit));
    }
    if (fds[0].revents != 0) {
      test.Drain();
      return {};
    }
    if (fds[2].revents != 0) {
      result.outcome = "not_run";
      return "the run was interrupted";
    }
  }
}

void ConformanceRunner::RunOne(CellResult& result, size_t number) {
  Clock::time_point begin = Clock::now();
  fs::path runtime = sandbox_.Path(std::to_string(number));
  fs::path report = sandbox_.Path(fmt::format("{}.json", number));
  std::string name = FileNameFor(result.of);
  fs::path artefacts = options_.directory / "artefacts" / name;
  fs::remove_all(artefacts);
  result.outcome = "fail";
  result.log = "logs/" + name + ".txt";

  std::string problem;
  ExitStatus status;
  {
    TestProcess test(
        {.argv = {options_.program.string(), "--gtest_filter=" + result.of.test,
                  "--gtest_output=json:" + report.string()},
         .environment = {{"MAYFLY_RUNTIME_DIR", runtime.string()},
                         {"MAYFLY_POOL", "off"},
                         {"MAYFLY_ARTIFACTS_DIR", artefacts.string()},
                         {"MAYFLY_TEST_TIMEOUT", std::to_string(options_.timeout / std::chrono::seconds(1))},
                         {"MAYFLY_CONFORMANCE_STRICT", "0"},
                         {"MAYFLY_CONFORMANCE_SIMULATED", "1"}}});  // its report says what is
    test.limit = options_.output_limit.count();
    problem = Watch(test, result);
    status = problem.empty() ? test.process->Wait(Deadline::After(Scaled(kForExit))) : test.process->Kill();
    internal::WriteWholeFile(options_.directory / result.log, test.log.Text());
  }
  std::vector<std::string> left = EndLeftovers(runtime.string(), options_.for_leftovers);
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::error_code ignored;
  fs::remove_all(runtime, ignored);

  if (fs::exists(artefacts)) {
    for (const auto& entry : fs::recursive_directory_iterator(artefacts)) {
      if (entry.is_regular_file()) {
        result.artefacts.push_back(entry.path().lexically_relative(options_.directory).string());
      }
    }
    std::sort(result.artefacts.begin(), result.artefacts.end());
  }
  // A Ctrl-C may also have reached it, before it was in a process group of its own.
  if (problem.empty() && status.signal != 0 && stopped()) result.outcome = "not_run";
  if (result.outcome == "not_run") return;
  bool read = ReadResult(report, result);
  if (problem.empty() &&
      (!read || (status.code != 0 && status.code != 1 && status.code != kSkipped) || status.signal != 0)) {
    problem = fmt::format("its process ended with {}", status.ToString());
  }
  if (!left.empty()) {
    problem += fmt::format("{}it left {} running, which {} ended", problem.empty() ? "" : "; ", fmt::join(left, ", "),
                           left.size() == 1 ? "was" : "were");
  }
  if (!problem.empty()) {
    result.outcome = "fail";
    result.reason = problem + (result.reason.empty() ? "" : "\n" + result.reason);
  }
}

}  // namespace mayfly::cli
