#include "cli/doctor_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/bytes.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/host_memory.h>
#include <mayfly/internal/pool_directory.h>
#include <mayfly/internal/template_store.h>
#include <mayfly/sandbox.h>
#include <mayfly/spec.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using Result = HostCheck::Result;
using literals::operator""_GiB;

constexpr Bytes kLittleSpace = 2_GiB;  // the images that mayfly builds take about 1 GiB
constexpr rlim_t kFewFiles = 256;      // a VM takes about 15 descriptors
constexpr rlim_t kTooFewFiles = 32;
constexpr auto kAnswerTime = std::chrono::seconds(5);

// What other programs mayfly starts, and who has them.
struct Program {
  const char* name;
  const char* use;
  const char* debian;
  const char* homebrew;
};
constexpr Program kPrograms[] = {
    {"mke2fs", "images with a disk", "e2fsprogs", "e2fsprogs"},
    {"apt-get", "building images on Debian", "apt", nullptr},
    {"mmdebstrap", "building the image 'debian'", "mmdebstrap", nullptr},
};

HostCheck FromError(std::string name, const Error& error) {
  std::string detail = error.text().summary;
  for (const std::string& note : error.text().notes) detail += "; " + note;
  return {std::move(name), Result::kFail, std::move(detail), error.text().next_step};
}

// The check, or what it threw as a failure.
HostCheck Guarded(const std::string& name, const std::function<HostCheck()>& check) {
  try {
    return check();
  } catch (const Error& error) {
    return FromError(name, error);
  }
}

HostCheck HostFacts() {
  utsname kernel{};
  uname(&kernel);
  return {"host", Result::kPass,
          fmt::format("{}, {} {} {}, {} CPUs", SystemName(), kernel.sysname, kernel.release, kernel.machine,
                      std::thread::hardware_concurrency()),
          ""};
}

HostCheck Memory() {
  internal::HostMemory memory = internal::ReadHostMemory();
  Bytes one = MachineSpec().memory;
  HostCheck check{"memory", Result::kPass,
                  fmt::format("{} of {} free: room for {} VMs of {}", ForPeople(memory.available),
                              ForPeople(memory.total), memory.available.count() / one.count(), ForPeople(one)),
                  ""};
  if (memory.available < one) {
    check.result = Result::kFail;
    check.fix = "end other programs, or give the VM less: mayfly run --memory 128M";
  }
  return check;
}

HostCheck RuntimePlace() {
  fs::path directory = RuntimeDirectory();
  return {"runtime", Result::kPass,
          fmt::format("{}: private, {} bytes of path", directory.string(), directory.string().size()), ""};
}

HostCheck CachePlace() {
  ImageStore store;
  return {"cache", Result::kPass, fmt::format("{} is writable", store.directory().string()), ""};
}

HostCheck Space(const std::string& name, const fs::path& directory) {
  struct statvfs status{};
  if (statvfs(directory.c_str(), &status) != 0)
    return {name, Result::kWarn, directory.string() + " cannot be read", ""};
  Bytes space(uint64_t{status.f_bavail} * status.f_frsize);
  HostCheck check{name, Result::kPass, fmt::format("{} free in {}", ForPeople(space), directory.string()), ""};
  if (space < kLittleSpace) {
    check.result = Result::kWarn;
    check.fix = fmt::format(
        "free some ({} are enough for all images), or choose another place: MAYFLY_CACHE_DIR, "
        "MAYFLY_RUNTIME_DIR",
        ForPeople(kLittleSpace));
  }
  return check;
}

HostCheck Data() {
  fs::path directory = DataDirectory();
  if (!fs::exists(directory / "mayfly-agent")) {
    return {"data", Result::kFail,
            fmt::format("{} has no mayfly-agent, the program that answers in the guest", directory.string()),
            "install mayfly again, or build the target mayfly_agent"};
  }
  return {"data", Result::kPass, fmt::format("image recipes and guest agent in {}", directory.string()), ""};
}

HostCheck Images() {
  std::vector<std::string> built;
  std::vector<std::string> missing;
  for (const ImageInfo& info : ImageStore().List()) (info.built ? built : missing).push_back(info.name);
  std::string detail = built.empty() ? "none is built yet" : fmt::format("built: {}", fmt::join(built, ", "));
  if (!missing.empty() && !built.empty()) detail += fmt::format("; on first use: {}", fmt::join(missing, ", "));
  return {"images", Result::kPass, detail, built.empty() ? "ahead of their first use: mayfly image build tiny" : ""};
}

HostCheck Programs() {
  HostCheck check{"programs", Result::kPass, "", ""};
  std::vector<std::string> found;
  std::vector<std::string> lost;
  std::vector<std::string> debian;
  std::vector<std::string> homebrew;
  for (const Program& program : kPrograms) {
    if (internal::FindProgram(program.name)) {
      found.emplace_back(program.name);
      continue;
    }
    lost.push_back(fmt::format("{} ({})", program.name, program.use));
    debian.emplace_back(program.debian);
    if (program.homebrew != nullptr) homebrew.emplace_back(program.homebrew);
  }
  if (lost.empty()) {
    check.detail = fmt::format("for building images: {}", fmt::join(found, ", "));
    return check;
  }
  check.result = Result::kWarn;
  check.detail = fmt::format("not found: {}", fmt::join(lost, ", "));
  check.fix = fmt::format("Debian: sudo apt-get install {}", fmt::join(debian, " "));
  if (!homebrew.empty()) check.fix += fmt::format("; Homebrew: brew install {}", fmt::join(homebrew, " "));
  return check;
}

HostCheck Files() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  HostCheck check{"files", Result::kPass, fmt::format("{} open files for each process", limit.rlim_cur), ""};
  if (limit.rlim_cur < kFewFiles) {
    check.result = limit.rlim_cur < kTooFewFiles ? Result::kFail : Result::kWarn;
    check.fix = fmt::format("ulimit -n {}", std::max<rlim_t>(1024, kFewFiles));
  }
  return check;
}

// "process 4242: 3 VMs held, 38 of 40 forks were ready".
std::string DaemonNow(internal::FoundPool& pool) {
  nlohmann::json status = pool.connection->Call({{"op", "status"}}, {}, Deadline::After(Scaled(kAnswerTime))).body;
  size_t held = status.at("leases").size();
  std::string text = fmt::format("process {}: {} {} held", pool.pid, held, held == 1 ? "VM" : "VMs");
  const nlohmann::json& forks = status.at("forks");
  if (forks.value("taken", 0) == 0) return text;
  return text + fmt::format(", {} of {} forks were ready", forks.value("hits", 0), forks.value("taken", 0));
}

HostCheck Pool() {
  HostCheck check{"pool", Result::kPass, "", ""};
  auto add = [](std::string& text, const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
  for (internal::FoundPool& pool : internal::FindPools()) {
    if (pool.state == internal::PoolState::kGone) continue;
    if (pool.state == internal::PoolState::kRuns) {
      add(check.detail, DaemonNow(pool));
      continue;
    }
    check.result = Result::kWarn;
    add(check.detail, fmt::format("process {}: {}", pool.pid, pool.trouble));
    check.fix = "end it: mayfly pool stop --force";
  }
  if (check.detail.empty()) check.detail = "no mayflyd runs; the first test starts one";
  size_t left = FindGarbage().size() + internal::TemplateStore().FindGarbage().size();
  if (left == 0) return check;
  check.result = Result::kWarn;
  add(check.detail, fmt::format("{} {} left by killed processes", left, left == 1 ? "file is" : "files are"));
  add(check.fix, "remove what is left: mayfly gc");
  return check;
}

HostCheck Templates() {
  std::vector<internal::TemplateStore::Stored> stored = internal::TemplateStore().List();
  uint64_t space = 0;
  for (const auto& one : stored) space += one.size.count();
  return {"templates", Result::kPass,
          stored.empty() ? "none yet; the first fork makes one"
                         : fmt::format("{} with {} to fork from", stored.size(), ForPeople(Bytes(space))),
          ""};
}

// The checks of the drivers. One that is not usable fails only when none is.
internal::ProbeReports AddDrivers(const std::string& name, Diagnosis& diagnosis) {
  std::vector<Driver*> drivers = AllDrivers();
  if (!name.empty()) drivers = {&FindDriver(name)};
  internal::ProbeReports reports;
  size_t first = diagnosis.checks.size();
  for (Driver* driver : drivers) {
    ProbeReport report = driver->Probe();
    if (report.usable && !report.simulated && diagnosis.driver.empty()) diagnosis.driver = driver->Name();
    for (const HostCheck& check : report.checks) diagnosis.checks.push_back(check);
    reports.emplace(driver->Name(), std::move(report));
  }
  if (diagnosis.driver.empty()) return reports;
  for (size_t i = first; i < diagnosis.checks.size(); ++i) {
    if (diagnosis.checks[i].result == Result::kFail) diagnosis.checks[i].result = Result::kWarn;
  }
  return reports;
}

// One line of a driver's cells, and below it each lack with what changes it.
HostCheck CellsCheck(const DriverCells& cells, bool built) {
  const internal::HostView::Summary& summary = cells.summary;
  HostCheck check{
      "matrix", Result::kPass,
      fmt::format("{}: {} of {} cells can be verified here", cells.driver, summary.verifiable, summary.cells), ""};
  if (!built) {
    check.detail += fmt::format(": {}", summary.lacks.front().first.reason);
    return check;
  }
  for (const auto& [lack, count] : summary.lacks) {
    check.result = Result::kWarn;
    check.fix +=
        fmt::format("{}{} {} without {}: {}", check.fix.empty() ? "" : "\n", count, count == 1 ? "cell" : "cells",
                    lack.need.empty() ? "it" : lack.need, lack.fix.empty() ? lack.reason : lack.fix);
  }
  return check;
}

// What of the matrix can be verified here, for each backend, or for the one of that name.
void AddMatrix(const std::string& name, internal::ProbeReports reports, Diagnosis& diagnosis) {
  std::vector<std::string> built;
  for (const auto& [driver, report] : reports) built.push_back(driver);
  try {
    internal::HostView view(internal::LoadMatrix(), std::move(reports));
    for (const internal::MatrixDriver& driver : view.matrix().drivers) {
      if (!name.empty() && driver.id != name) continue;
      const DriverCells& cells = diagnosis.cells.emplace_back(DriverCells{driver.id, view.SummaryOf(driver.id)});
      bool is_built = std::find(built.begin(), built.end(), driver.id) != built.end();
      diagnosis.checks.push_back(CellsCheck(cells, is_built));
    }
  } catch (const Error& error) {
    diagnosis.checks.push_back(FromError("matrix", error));
    diagnosis.checks.back().result = Result::kWarn;  // VMs run without it
  }
}

}  // namespace

std::string SystemName() {
  std::ifstream file("/etc/os-release");
  constexpr std::string_view kKey = "PRETTY_NAME=";
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kKey)) continue;
    std::string name = line.substr(kKey.size());
    std::erase(name, '"');
    return name;
  }
  return "unknown system";
}

Diagnosis Diagnose(const std::string& driver) {
  Diagnosis diagnosis;
  std::vector<HostCheck>& checks = diagnosis.checks;
  checks.push_back(HostFacts());
  checks.push_back(Memory());
  internal::ProbeReports reports = AddDrivers(driver, diagnosis);
  checks.push_back(Guarded("runtime", RuntimePlace));
  checks.push_back(Guarded("cache", CachePlace));
  checks.push_back(Guarded("pool", Pool));
  checks.push_back(Guarded("templates", Templates));
  checks.push_back(Guarded("space", [] { return Space("space", ImageStore().directory()); }));
  checks.push_back(Guarded("data", Data));
  checks.push_back(Guarded("images", Images));
  checks.push_back(Programs());
  checks.push_back(Files());
  AddMatrix(driver, std::move(reports), diagnosis);
  bool failed = std::any_of(checks.begin(), checks.end(), [](const HostCheck& c) { return c.result == Result::kFail; });
  diagnosis.usable = !diagnosis.driver.empty() && !failed;
  return diagnosis;
}

}  // namespace mayfly::cli
