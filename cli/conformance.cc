// mayfly conformance: shows on real VMMs what the capability matrix says.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/host_memory.h>
#include <mayfly/internal/host_view.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>
#include <mayfly/sandbox.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/conformance_host.h"
#include "cli/conformance_report.h"
#include "cli/conformance_runner.h"
#include "cli/doctor_checks.h"
#include "cli/emulated_host.h"
#include "cli/evidence.h"
#include "cli/output.h"
#include "cli/stop_on_signal.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::HostView;
using internal::Quoted;

constexpr const char* kFooter =
    "Examples:\n"
    "  mayfly conformance run --driver qemu                      every cell of the matrix with QEMU\n"
    "  mayfly conformance list --driver qemu                     their names\n"
    "  mayfly conformance record ci/results.json                 in mayfly's source tree: keep what a run has shown\n\n"
    "Exit codes: 0; 1 when it could not be done; 2 for a wrong command line. Each command has its own --help.";
constexpr const char* kRunFooter =
    "Each test runs in a process of its own; one that crashes, hangs or leaves something running fails, and the run "
    "goes "
    "on.\n"
    "What this host cannot show is told as \"not verified here\", with the reason. --filter takes patterns with * and "
    "?,\n"
    "separated by ':', for capabilities (cpu.*) or tests (cpu.hotplug.more_than*). Ctrl-C ends the run; what was found "
    "by\n"
    "then is told and reported.\n\n"
    "Examples:\n"
    "  mayfly conformance run --driver qemu --jobs 2\n"
    "  mayfly conformance run --driver qemu --filter 'storage.*:cpu.hotplug' --report report\n"
    "  mayfly conformance run --driver qemu --report new --compare old/results.json\n"
    "  mayfly conformance run --driver qemu --record             in mayfly's source tree: evidence for the matrix\n"
    "  mayfly conformance run --driver ch --host emulated        in an emulated host, where this one has no KVM\n\n"
    "Exit codes: 0 when all is as the matrix says; 1 when something deviates; 2 when it could not be run or was "
    "interrupted.";

constexpr const char* kRecordFooter =
    "Writes matrix/evidence/DRIVER/CAPABILITY.json for each cell that the run has shown something of, with all its\n"
    "tests; commit them, and what `mayfly matrix docs --write` makes of them. For runs on other hosts than this.\n\n"
    "Examples:\n"
    "  mayfly conformance record report/results.json\n\n"
    "Exit codes: 0; 1 when it could not be done; 2 for a wrong command line.";
constexpr const char* kMatrixInTree = "matrix/capabilities.json";
constexpr const char* kEvidenceInTree = "matrix/evidence";

constexpr const char* kHere = "here";
constexpr const char* kEmulated = "emulated";

struct Flags {
  std::string driver{};
  std::string filter{};
  std::string jobs = "1";
  std::string timeout = "240s";
  std::string report{};
  std::string compare{};
  std::string results{};
  std::string host = kHere;
  bool strict = false;
  bool record = false;
};

// --- What it ran on -------------------------------------------------------------------------------------------------

std::string TimeNow() { return fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))); }

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::map<std::string, std::string> HostFacts() {
  utsname kernel{};
  uname(&kernel);
  const char* emulated = std::getenv(kEmulatedHostVariable);  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  return {{"system", SystemName() + (emulated != nullptr ? ", emulated by mayfly host" : "")},
          {"kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine)},
          {"cpu", CpuModel()},
          {"cpus", std::to_string(std::thread::hardware_concurrency())},
          {"memory", ForPeople(internal::ReadHostMemory().total)}};
}

// Of the source tree that this is run in, when it is mayfly's.
std::string Commit() {
  if (!fs::exists(kMatrixInTree) || !internal::FindProgram("git")) return {};
  auto git = [](std::vector<std::string> words) {
    words.insert(words.begin(), "git");
    return internal::RunCommand(std::move(words), std::chrono::seconds(10));
  };
  internal::CommandOutput head = git({"rev-parse", "--short=12", "HEAD"});
  if (!head.status.ok()) return {};
  // What is made of runs does not change what they run.
  bool changed = !git({"diff", "--quiet", "HEAD", "--", ".", ":!matrix/evidence", ":!docs", ":!*.md"}).status.ok();
  return head.out.substr(0, head.out.find('\n')) + (changed ? " with changes" : "");
}

// What all VMs of a run had in common.
std::map<std::string, std::string> VmmFacts(const std::string& driver, const ConformanceRun& run,
                                            const internal::ProbeReports& reports) {
  std::map<std::string, std::string> facts;
  if (auto report = reports.find(driver); report != reports.end()) facts["version"] = report->second.version;
  for (const char* fact : {"accelerator", "vmm"}) {
    for (const CellResult& result : run.results) {
      if (auto found = result.facts.find(fact); found != result.facts.end()) facts[fact] = found->second;
    }
  }
  return facts;
}

// --- record ---------------------------------------------------------------------------------------------------------

void RequireSourceTree() {
  if (fs::exists(kMatrixInTree)) return;
  throw BadSpec({.summary = fmt::format(
                     "conformance: evidence is kept in mayfly's source tree, and there is no {} here", kMatrixInTree),
                 .next_step = "go there; of a run elsewhere: mayfly conformance record DIR/results.json"});
}

void RecordEvidence(const ConformanceRun& run, const std::vector<CellCase>& all) {
  std::vector<Evidence> records = EvidenceFrom(run, all);
  for (const Evidence& record : records) WriteEvidence(record, kEvidenceInTree);
  Print(fmt::format("recorded {} {} in {}/{}\n", records.size(), records.size() == 1 ? "cell" : "cells",
                    kEvidenceInTree, run.driver));
}

int Record(const Flags& flags) {
  RequireSourceTree();
  nlohmann::json results = nlohmann::json::parse(ReadTextFile("RESULTS", flags.results), nullptr, false);
  RecordEvidence(ConformanceRunFrom(results, flags.results), ListCases(ConformanceProgram()));
  return 0;
}

// --- run ------------------------------------------------------------------------------------------------------------

Colour ColourOf(const CellResult& result) {
  if (result.outcome == "fail") return Colour::kRed;
  if (result.outcome == "pass" || result.outcome == "refused") return Colour::kGreen;
  return result.outcome == "not_verified" ? Colour::kDim : Colour::kYellow;
}

void PrintProgress(const CellResult& result, size_t done, size_t all, bool colour) {
  std::string word = Coloured(Padded(WordOf(result.outcome).words, 17), ColourOf(result), colour);
  std::string count = Padded(fmt::format("[{}/{}]", done, all), 10);
  std::string line =
      fmt::format("{}{} {:5.1f} s  {}: {}", count, word, result.seconds, result.of.capability, result.of.claim);
  Print(line + "\n");
  bool told = result.outcome == "fail" || result.outcome == "unexpected_pass";
  if (told && !result.reason.empty()) {
    std::string reason = result.reason.substr(0, 2000);
    for (size_t begin = 0; begin < reason.size();) {
      size_t end = std::min(reason.find('\n', begin), reason.size());
      Print("          " + reason.substr(begin, end - begin) + "\n");
      begin = end + 1;
    }
  }
  FlushOutput();
}

// Groups against outcomes.
void PrintTable(const ConformanceRun& run, const internal::Matrix& matrix, bool colour) {
  std::string head = Padded("", 28);
  for (const OutcomeWord& word : kOutcomeWords) {
    if (run.Counts().contains(std::string(word.name))) head += Padded(word.words, 19);
  }
  Print("\n" + Coloured(head, Colour::kBold, colour) + "\n");
  for (const internal::MatrixGroup& group : matrix.groups) {
    ConformanceRun part;
    for (const CellResult& result : run.results) {
      if (result.of.capability.starts_with(group.id + ".")) part.results.push_back(result);
    }
    if (part.results.empty()) continue;
    std::string line = Padded(group.title, 28);
    std::map<std::string, size_t> counts = part.Counts();
    for (const OutcomeWord& word : kOutcomeWords) {
      if (!run.Counts().contains(std::string(word.name))) continue;
      size_t count = counts[std::string(word.name)];
      line += Padded(count == 0 ? "·" : std::to_string(count), 19);
    }
    Print(line.substr(0, line.find_last_not_of(' ') + 1) + "\n");
  }
}

std::vector<CellCase> CasesFor(const Flags& flags, const internal::Matrix& matrix, std::vector<CellCase> cases) {
  if (matrix.FindDriver(flags.driver) == nullptr) {
    std::vector<std::string_view> known;
    for (const internal::MatrixDriver& driver : matrix.drivers) known.push_back(driver.id);
    throw BadSpec({.summary = fmt::format("conformance: the matrix has no driver {}{}", Quoted(flags.driver),
                                          internal::DidYouMean(flags.driver, known))});
  }
  std::erase_if(cases, [&](const CellCase& of) { return of.driver != flags.driver || !Matches(flags.filter, of); });
  if (cases.empty()) {
    throw BadSpec({.summary = fmt::format("conformance: --filter {} means no test", Quoted(flags.filter)),
                   .next_step = "see: mayfly conformance list --driver " + flags.driver});
  }
  return cases;
}

// The same run in an emulated host, which leaves its results in the report's directory.
int RunInEmulatedHost(const Flags& flags, const std::vector<CellCase>& cases, const fs::path& directory) {
  std::vector<std::string> words = {"conformance", "run",       "--driver",    flags.driver, "--jobs",
                                    flags.jobs,    "--timeout", flags.timeout, "--report",   directory.string()};
  if (!flags.filter.empty()) words.insert(words.end(), {"--filter", flags.filter});
  if (!flags.compare.empty()) words.insert(words.end(), {"--compare", flags.compare});
  if (flags.strict) words.emplace_back("--strict");
  fs::path results = directory / "results.json";
  fs::remove(results);
  int code = RunConformanceInEmulatedHost(words, directory);
  if (flags.record && fs::exists(results)) {
    nlohmann::json all = nlohmann::json::parse(ReadTextFile("results", results), nullptr, false);
    RecordEvidence(ConformanceRunFrom(all, results.string()), cases);
    FlushOutput();
  }
  return code;
}

int Run(const Flags& flags) {
  internal::Matrix matrix = internal::LoadMatrix();
  fs::path program = ConformanceProgram();
  if (flags.record) RequireSourceTree();
  if (flags.host != kHere && flags.host != kEmulated) {
    throw BadSpec({.summary = fmt::format("conformance: --host: {} is not allowed; allowed: {}, {}", Quoted(flags.host),
                                          kHere, kEmulated)});
  }
  size_t jobs = ReadCount("--jobs", flags.jobs);
  if (jobs == 0) throw BadSpec({.summary = "conformance: --jobs must be at least 1"});
  std::vector<CellCase> cases = ListCases(program);
  RunnerOptions options{.program = program,
                        .cases = CasesFor(flags, matrix, cases),
                        .jobs = jobs,
                        .timeout = ReadDuration("--timeout", flags.timeout)};
  std::optional<ConformanceRun> before;
  if (!flags.compare.empty()) {
    nlohmann::json old = nlohmann::json::parse(ReadTextFile("--compare", flags.compare), nullptr, false);
    before = ConformanceRunFrom(old, flags.compare);
  }
  std::optional<Sandbox> temporary;
  if (flags.report.empty()) temporary = Sandbox::Create("conformance");
  options.directory = temporary ? temporary->directory() : fs::path(flags.report);
  fs::create_directories(options.directory);
  if (flags.host == kEmulated) return RunInEmulatedHost(flags, cases, fs::absolute(options.directory));

  internal::ProbeReports reports = internal::ProbeAll();
  HostView view(matrix, reports, internal::Simulation::kCounts);
  ConformanceRun run{.driver = flags.driver,
                     .filter = flags.filter,
                     .started = TimeNow(),
                     .version = MAYFLY_VERSION,
                     .commit = Commit(),
                     .strict = flags.strict,
                     .host = HostFacts()};
  bool colour = WantsColour(STDOUT_FILENO);
  Clock::time_point begin = Clock::now();
  ConformanceRunner runner(std::move(options), view);
  {
    StopOnSignal stop([&runner] { runner.RequestStop(); });
    run.complete = runner.Run([&](const CellResult& result, size_t done, size_t all) {
      if (result.outcome != "not_verified") PrintProgress(result, done, all, colour);
    });
  }
  run.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  run.results = runner.results();
  run.vmm = VmmFacts(flags.driver, run, reports);
  if (auto report = reports.find(flags.driver); report != reports.end()) run.simulated = report->second.simulated;

  PrintTable(run, matrix, colour);
  auto deviations = std::count_if(run.results.begin(), run.results.end(),
                                  [&](const CellResult& result) { return Deviates(result, run.strict); });
  Print(fmt::format("\n{} with {}{}, {:.0f} s\n", CountsInWords(run), run.simulated ? "a simulated " : "", flags.driver,
                    run.seconds));
  if (!flags.report.empty()) {
    WriteReport(run, matrix, flags.report, before);
    Print(fmt::format("report: {}\n", (fs::path(flags.report) / "report.html").string()));
  }
  if (flags.record) RecordEvidence(run, cases);
  FlushOutput();
  if (!run.complete) Complain("mayfly: conformance: interrupted: this is only a part of the run");
  if (!run.complete) return kUsage;
  return deviations == 0 ? 0 : kFailed;
}

// Its own codes: 1 means that something deviates.
int RunOrCannot(const Flags& flags) {
  try {
    return Run(flags);
  } catch (const std::exception& error) {
    Complain(error.what());
    return kUsage;
  }
}

int List(const Flags& flags) {
  internal::Matrix matrix = internal::LoadMatrix();
  for (const CellCase& of : CasesFor(flags, matrix, ListCases(ConformanceProgram()))) Print(of.test + "\n");
  return 0;
}

}  // namespace

void AddConformance(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& conformance =
      *app.add_subcommand("conformance", "Show on a real VMM what the capability matrix says: run, list, record");
  conformance.require_subcommand(1);
  conformance.footer(kFooter);
  auto add = [&](const char* name, const char* description, int (*function)(const Flags&)) -> CLI::App& {
    CLI::App& sub = *conformance.add_subcommand(name, description);
    sub.add_option("--driver", flags->driver, "The backend")->type_name("NAME")->required();
    sub.add_option("--filter", flags->filter, "Only these capabilities or tests")->type_name("PATTERN");
    sub.callback([flags, &chosen, function] { chosen = [flags, function] { return function(*flags); }; });
    return sub;
  };
  CLI::App& run = add("run", "Run the test of each cell of the matrix with a backend", RunOrCannot);
  run.footer(kRunFooter);
  run.add_option("--jobs,-j", flags->jobs, "Tests at a time")->type_name("N")->capture_default_str();
  run.add_option("--timeout", flags->timeout, "For each test")->type_name("TIME")->capture_default_str();
  run.add_option("--host", flags->host, "Where: here, or emulated, which has KVM")
      ->type_name("HOST")
      ->capture_default_str();
  run.add_flag("--strict", flags->strict, "An unexpected pass is a deviation");
  run.add_flag("--record", flags->record, "Keep what was shown in matrix/evidence, as evidence for the matrix");
  run.add_option("--report", flags->report, "Write results.json, junit.xml, report.md, report.html, logs, artefacts")
      ->type_name("DIR");
  run.add_option("--compare", flags->compare, "The results.json of another run, for report.html")->type_name("FILE");
  CLI::App& record = *conformance.add_subcommand("record", "Keep what a report's run has shown as evidence");
  record.footer(kRecordFooter);
  record.add_option("RESULTS", flags->results, "The results.json of a report")->required()->type_name("");
  record.callback([flags, &chosen] { chosen = [flags] { return Record(*flags); }; });
  CLI::App& list = add("list", "Names of the tests", List);
  list.footer(
      "Examples:\n  mayfly conformance list --driver ch --filter 'memory.*'\n\n"
      "Exit codes: 0; 1 when there is none; 2 for a wrong command line.");
}

}  // namespace mayfly::cli
