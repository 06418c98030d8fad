#include "cli/evidence.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/json_reader.h>
#include <mayfly/internal/json_schema.h>
#include <mayfly/internal/spec_fault.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::CellStatus;
using internal::Matrix;
using nlohmann::json;
using Json = nlohmann::ordered_json;

constexpr uint64_t kLongestRecord = 1 << 20;

Json JsonOf(const Evidence& evidence) {
  Json tests = Json::array();
  for (const EvidenceTest& test : evidence.tests) {
    tests.push_back({{"claim", test.claim}, {"kind", test.kind}, {"outcome", test.outcome}, {"seconds", test.seconds}});
  }
  return {{"format", 1},
          {"driver", evidence.driver},
          {"capability", evidence.capability},
          {"outcome", evidence.outcome},
          {"date", evidence.date},
          {"simulated", evidence.simulated},
          {"vmm", evidence.vmm},
          {"host", evidence.host},
          {"mayfly", evidence.mayfly},
          {"commit", evidence.commit},
          {"tests", std::move(tests)}};
}

Evidence EvidenceOf(const json& record) {
  Evidence evidence{.driver = record.at("driver"),
                    .capability = record.at("capability"),
                    .outcome = record.at("outcome"),
                    .date = record.at("date"),
                    .simulated = record.at("simulated"),
                    .vmm = record.at("vmm"),
                    .host = record.at("host"),
                    .mayfly = record.at("mayfly"),
                    .commit = record.at("commit")};
  for (const json& test : record.at("tests")) {
    evidence.tests.push_back({test.at("claim"), test.at("kind"), test.at("outcome"), test.at("seconds")});
  }
  return evidence;
}

fs::path FileOf(const fs::path& directory, const std::string& driver, const std::string& capability) {
  return directory / driver / (capability + ".json");
}

// What the tests of a cell had in common: of the first that booted a VM, and all images that were used.
std::map<std::string, std::string> VmmFactsOf(const ConformanceRun& run, const std::vector<const CellResult*>& tests) {
  std::map<std::string, std::string> facts;
  std::set<std::string> images;
  for (const CellResult* test : tests) {
    for (const auto& [name, fact] : test->facts) facts.emplace(name, fact);
    if (auto image = test->facts.find("image"); image != test->facts.end()) images.insert(image->second);
  }
  if (!facts.contains("vmm") && run.vmm.contains("vmm")) facts["vmm"] = run.vmm.at("vmm");
  if (!images.empty()) facts["image"] = fmt::format("{}", fmt::join(images, ", "));
  return facts;
}

std::string FactOr(const std::map<std::string, std::string>& facts, const std::string& name, const std::string& other) {
  auto found = facts.find(name);
  return found == facts.end() ? other : found->second;
}

}  // namespace

std::vector<Evidence> EvidenceFrom(const ConformanceRun& run, const std::vector<CellCase>& all) {
  std::map<std::string, std::vector<const CellResult*>> cells;
  for (const CellResult& result : run.results) cells[result.of.capability].push_back(&result);
  std::vector<Evidence> evidence;
  for (const auto& [capability, tests] : cells) {
    auto wanted = std::count_if(all.begin(), all.end(), [&, id = capability](const CellCase& of) {
      return of.driver == run.driver && of.capability == id;
    });
    std::string outcome = OutcomeOfCell(tests);
    if (outcome == "unexpected_pass") outcome = "pass";
    bool is_whole =
        std::none_of(tests.begin(), tests.end(), [](const auto* test) { return test->outcome == "not_run"; });
    if (!is_whole || static_cast<size_t>(wanted) != tests.size() || outcome == "not_verified") continue;
    Evidence record{.driver = run.driver,
                    .capability = capability,
                    .outcome = outcome,
                    .date = run.started.substr(0, run.started.find('T')),
                    .simulated = run.simulated,
                    .vmm = VmmFactsOf(run, tests),
                    .mayfly = run.version,
                    .commit = run.commit};
    for (const char* fact : {"system", "kernel", "cpu"}) {
      if (auto found = run.host.find(fact); found != run.host.end()) record.host.insert(*found);
    }
    for (const CellResult* test : tests) {
      // To a tenth: more would only make two records look different.
      double seconds = std::round(test->seconds * 10) / 10;
      record.tests.push_back({test->of.claim, test->of.kind, test->outcome, seconds});
    }
    evidence.push_back(std::move(record));
  }
  return evidence;
}

void WriteEvidence(const Evidence& evidence, const fs::path& directory) {
  fs::path file = FileOf(directory, evidence.driver, evidence.capability);
  fs::create_directories(file.parent_path());
  internal::WriteWholeFile(file, JsonOf(evidence).dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

EvidenceOfCells ReadEvidence(const fs::path& directory) {
  EvidenceOfCells evidence;
  if (!fs::exists(directory)) return evidence;
  json schema = json::parse(
      internal::ReadWholeFile(internal::MatrixFile().parent_path() / "evidence.schema.json", kLongestRecord));
  std::set<fs::path> files;  // in an order that is always the same
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.insert(entry.path());
  }
  for (const fs::path& file : files) {
    json record = internal::ParseJson(internal::SpecPath(file.string()), internal::ReadWholeFile(file, kLongestRecord));
    internal::RequireValid(schema, record, file.string());
    Evidence read = EvidenceOf(record);
    if (FileOf(directory, read.driver, read.capability) != file) {
      throw BadSpec({.summary = fmt::format("{}: it is the record of {} with {}, and lies in another one's place",
                                            file.string(), read.capability, read.driver)});
    }
    evidence.emplace(std::pair(read.driver, read.capability), std::move(read));
  }
  return evidence;
}

std::vector<std::string> EvidenceFaults(const Matrix& matrix, const EvidenceOfCells& evidence) {
  std::vector<std::string> faults;
  for (const internal::MatrixRow& row : matrix.rows) {
    for (const auto& [driver, cell] : row.cells) {
      if (cell.status != CellStatus::kSupported) continue;
      auto found = evidence.find({driver, row.id});
      std::string why;
      if (found == evidence.end()) {
        why = "nothing shows it";
      } else if (found->second.simulated) {
        why = "its evidence is simulated, which says nothing of the real backend";
      } else if (!found->second.Proves()) {
        why = fmt::format("its evidence of {} says \"{}\"", found->second.date, found->second.outcome);
      } else {
        continue;
      }
      faults.push_back(fmt::format(
          "{}: drivers.{}: it is supported, but {}; in the source tree: mayfly conformance run --driver {} --filter {} "
          "--record",
          row.id, driver, why, driver, row.id));
    }
  }
  for (const auto& [cell, record] : evidence) {
    const internal::MatrixRow* row = matrix.Find(cell.second);
    if (row != nullptr && row->cells.contains(cell.first)) continue;
    faults.push_back(fmt::format("evidence/{}/{}.json: the matrix has no such cell", cell.first, cell.second));
  }
  return faults;
}

std::string SummaryOf(const Evidence& evidence) {
  std::string text = fmt::format("{}{}: {}", evidence.simulated ? "simulated, " : "", evidence.date,
                                 FactOr(evidence.vmm, "vmm", evidence.driver));
  if (evidence.vmm.contains("machine")) {
    text += fmt::format(" ({}, {})", evidence.vmm.at("machine"), FactOr(evidence.vmm, "accelerator", "?"));
  }
  text += ", " + FactOr(evidence.host, "kernel", "unknown host");
  if (!evidence.commit.empty()) text += ", commit " + evidence.commit;
  return text;
}

int DaysOld(const Evidence& evidence) {
  using namespace std::chrono;  // NOLINT(google-build-using-namespace)
  year_month_day day{year(std::atoi(evidence.date.c_str())),
                     month(static_cast<unsigned>(std::atoi(evidence.date.c_str() + 5))),
                     std::chrono::day(static_cast<unsigned>(std::atoi(evidence.date.c_str() + 8)))};
  auto age = floor<days>(system_clock::now()) - sys_days(day);
  return static_cast<int>(std::max<days::rep>(0, age.count()));
}

}  // namespace mayfly::cli
