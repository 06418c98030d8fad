#include "cli/conformance_report.h"

#include <fmt/format.h>
#include <mayfly/internal/files.h>

#include <algorithm>
#include <vector>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::Matrix;
using internal::MatrixRow;

// Text as XML takes it: what it forbids even when escaped becomes '?'.
std::string Xml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) >= ' ' || c == '\n' || c == '\t' ? c : '?';
    }
  }
  return out;
}

// Text as a cell of a Markdown table takes it.
std::string Cell(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, text.find('\n'))) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::vector<const CellResult*> ResultsOf(const ConformanceRun& run, std::string_view capability) {
  std::vector<const CellResult*> results;
  for (const CellResult& result : run.results) {
    if (result.of.capability == capability) results.push_back(&result);
  }
  return results;
}

std::string Facts(const std::map<std::string, std::string>& facts) {
  std::string text;
  for (const auto& [name, value] : facts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, value);
  return text;
}

}  // namespace

std::string CountsInWords(const ConformanceRun& run) {
  std::string text;
  std::map<std::string, size_t> counts = run.Counts();
  for (const OutcomeWord& word : kOutcomeWords) {
    auto found = counts.find(std::string(word.name));
    if (found != counts.end()) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", found->second, word.words);
  }
  return text.empty() ? "no test" : text;
}

std::string JUnitOf(const ConformanceRun& run) {
  auto skipped = [](const CellResult& result) {
    return result.outcome == "not_verified" || result.outcome == "not_run";
  };
  size_t failures = 0;
  size_t skips = 0;
  for (const CellResult& result : run.results) {
    failures += Deviates(result, run.strict) ? 1 : 0;
    skips += skipped(result) ? 1 : 0;
  }
  std::string xml = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"conformance.{}\" tests=\"{}\" failures=\"{}\" "
      "skipped=\"{}\" time=\"{:.3f}\" timestamp=\"{}\">\n",
      Xml(run.driver), run.results.size(), failures, skips, run.seconds, Xml(run.started));
  xml += fmt::format("  <properties>\n    <property name=\"complete\" value=\"{}\"/>\n", run.complete);
  for (const auto* facts : {&run.host, &run.vmm}) {
    for (const auto& [name, value] : *facts) {
      xml += fmt::format("    <property name=\"{}\" value=\"{}\"/>\n", Xml(name), Xml(value));
    }
  }
  xml += "  </properties>\n";
  for (const CellResult& result : run.results) {
    xml += fmt::format("  <testcase classname=\"conformance.{}.{}\" name=\"{}\" time=\"{:.3f}\"", Xml(result.of.driver),
                       Xml(result.of.capability), Xml(result.of.claim), result.seconds);
    const char* element = nullptr;
    if (Deviates(result, run.strict)) element = "failure";
    if (skipped(result)) element = "skipped";
    std::string first(WordOf(result.outcome).words);
    first += ": " + result.reason.substr(0, result.reason.find('\n'));
    if (element != nullptr) {
      xml += fmt::format(">\n    <{0} message=\"{1}\">{2}</{0}>\n  </testcase>\n", element, Xml(first),
                         Xml(result.reason));
    } else {
      xml += fmt::format(">\n    <system-out>{}</system-out>\n  </testcase>\n", Xml(first));
    }
  }
  return xml + "</testsuite>\n";
}

std::string MarkdownOf(const ConformanceRun& run, const Matrix& matrix) {
  std::string text = fmt::format("# Conformance of {}\n\n", run.driver);
  if (!run.complete) text += "**This run was interrupted: it is only a part.**\n\n";
  if (run.simulated) text += "**Simulated: no evidence for the real backend.**\n\n";
  text += fmt::format("{} · {:.0f} s · {}  \n", run.started, run.seconds, CountsInWords(run));
  text += fmt::format("host: {}  \nVMM: {}  \nmayfly {}{}\n", Facts(run.host), Facts(run.vmm), run.version,
                      run.commit.empty() ? "" : ", commit " + run.commit);
  auto section = [&](const std::string& title, auto&& wanted) {
    bool any = false;
    for (const CellResult& result : run.results) {
      if (!wanted(result)) continue;
      if (!any) text += fmt::format("\n## {}\n", title);
      any = true;
      text += fmt::format("\n### {}: {}\n{}\n", result.of.capability, result.of.claim, WordOf(result.outcome).words);
      if (!result.reason.empty()) text += fmt::format("\n```\n{}\n```\n", result.reason.substr(0, 4000));
      if (!result.log.empty()) text += fmt::format("\n[log]({})", result.log);
      for (const std::string& file : result.artefacts)
        text += fmt::format(" · [{}]({})", fs::path(file).filename().string(), file);
      text += "\n";
    }
  };
  section("Deviations", [&](const CellResult& result) { return Deviates(result, run.strict); });
  text += "\n## All\n\n| capability | status | claim | outcome | s | why |\n| --- | --- | --- | --- | ---: | --- |\n";
  for (const MatrixRow& row : matrix.rows) {
    for (const CellResult* result : ResultsOf(run, row.id)) {
      text += fmt::format("| {} | {} | {} | {} | {:.1f} | {} |\n", row.id, result->status, Cell(result->of.claim),
                          WordOf(result->outcome).words, result->seconds, Cell(result->reason));
    }
  }
  return text;
}

void WriteReport(const ConformanceRun& run, const Matrix& matrix, const fs::path& directory,
                 const std::optional<ConformanceRun>& before) {
  fs::create_directories(directory);
  internal::WriteWholeFile(directory / "results.json",
                           ToJson(run).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  internal::WriteWholeFile(directory / "junit.xml", JUnitOf(run));
  internal::WriteWholeFile(directory / "report.md", MarkdownOf(run, matrix));
  internal::WriteWholeFile(directory / "report.html", HtmlOf(run, matrix, before));
}

}  // namespace mayfly::cli
