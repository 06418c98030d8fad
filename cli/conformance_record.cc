#include "cli/conformance_record.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/json_schema.h>
#include <mayfly/internal/matrix.h>

#include <algorithm>
#include <iterator>

namespace mayfly::cli {
namespace {

using nlohmann::json;
using Json = nlohmann::ordered_json;

Json JsonOf(const CellResult& result) {
  Json cell = {{"test", result.of.test},    {"driver", result.of.driver}, {"capability", result.of.capability},
               {"claim", result.of.claim},  {"kind", result.of.kind},     {"status", result.status},
               {"outcome", result.outcome}, {"seconds", result.seconds}};
  if (!result.reason.empty()) cell["reason"] = result.reason;
  if (!result.facts.empty()) cell["facts"] = result.facts;
  if (!result.log.empty()) cell["log"] = result.log;
  if (!result.artefacts.empty()) cell["artefacts"] = result.artefacts;
  return cell;
}

CellResult ResultFrom(const json& cell) {
  return {.of = {.test = cell.at("test"),
                 .driver = cell.at("driver"),
                 .capability = cell.at("capability"),
                 .claim = cell.at("claim"),
                 .kind = cell.at("kind")},
          .status = cell.at("status"),
          .outcome = cell.at("outcome"),
          .reason = cell.value("reason", ""),
          .seconds = cell.at("seconds"),
          .facts = cell.value("facts", std::map<std::string, std::string>{}),
          .log = cell.value("log", ""),
          .artefacts = cell.value("artefacts", std::vector<std::string>{})};
}

}  // namespace

const OutcomeWord& WordOf(std::string_view outcome) {
  const auto* found = std::find_if(kOutcomeWords.begin(), kOutcomeWords.end(),
                                   [&](const OutcomeWord& word) { return word.name == outcome; });
  return found == kOutcomeWords.end() ? kOutcomeWords[1] : *found;
}

std::map<std::string, size_t> ConformanceRun::Counts() const {
  std::map<std::string, size_t> counts;
  for (const CellResult& result : results) ++counts[result.outcome];
  return counts;
}

bool Deviates(const CellResult& result, bool strict) {
  return result.outcome == "fail" || (strict && result.outcome == "unexpected_pass");
}

std::string OutcomeOfCell(const std::vector<const CellResult*>& results) {
  // A claim that is only planned says more than a refusal that holds.
  constexpr std::array<std::string_view, 7> kWorstFirst = {"fail",    "not_run", "expected_failure", "unexpected_pass",
                                                           "refused", "pass",    "not_verified"};
  for (std::string_view outcome : kWorstFirst) {
    bool any = std::any_of(results.begin(), results.end(), [&](const CellResult* result) {
      // Of a refusal only a failure counts: it does not show the capability.
      return result->outcome == outcome && (result->of.kind == "claim" || outcome == "fail" || outcome == "not_run");
    });
    if (any) return std::string(outcome);
  }
  return "not_run";
}

Json ToJson(const ConformanceRun& run) {
  Json all = {{"format", 1},
              {"driver", run.driver},
              {"filter", run.filter},
              {"started", run.started},
              {"seconds", run.seconds},
              {"complete", run.complete},
              {"strict", run.strict},
              {"simulated", run.simulated},
              {"version", run.version},
              {"commit", run.commit},
              {"host", run.host},
              {"vmm", run.vmm},
              {"counts", run.Counts()},
              {"results", Json::array()}};
  for (const CellResult& result : run.results) all["results"].push_back(JsonOf(result));
  return all;
}

ConformanceRun ConformanceRunFrom(const json& all, std::string_view origin) {
  json schema =
      json::parse(internal::ReadWholeFile(internal::MatrixFile().parent_path() / "results.schema.json", 1 << 20));
  internal::RequireValid(schema, all, origin, "it must be the results.json of `mayfly conformance run --report DIR`");
  ConformanceRun run{.driver = all.at("driver"),
                     .filter = all.at("filter"),
                     .started = all.at("started"),
                     .version = all.at("version"),
                     .commit = all.at("commit"),
                     .seconds = all.at("seconds"),
                     .complete = all.at("complete"),
                     .strict = all.at("strict"),
                     .simulated = all.at("simulated"),
                     .host = all.at("host"),
                     .vmm = all.at("vmm")};
  for (const json& cell : all.at("results")) run.results.push_back(ResultFrom(cell));
  return run;
}

}  // namespace mayfly::cli
