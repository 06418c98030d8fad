// The page of a conformance run: matrix/report.html with the run's data put in.
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>

#include "cli/conformance_report.h"

namespace mayfly::cli {
namespace {

using internal::Matrix;
using Json = nlohmann::ordered_json;

constexpr std::string_view kPlace = "/*DATA*/null";

// Names and titles of rows, so that the page can tell of cells that were not asked for.
Json JsonOf(const Matrix& matrix) {
  Json rows = Json::array();
  for (const internal::MatrixRow& row : matrix.rows) {
    rows.push_back({{"id", row.id}, {"group", row.group}, {"title", row.title}, {"gives", row.gives}});
  }
  Json groups = Json::object();
  for (const internal::MatrixGroup& group : matrix.groups) groups[group.id] = group.title;
  return {{"rows", std::move(rows)}, {"groups", std::move(groups)}};
}

}  // namespace

std::string HtmlOf(const ConformanceRun& run, const Matrix& matrix, const std::optional<ConformanceRun>& before) {
  std::string page = internal::ReadWholeFile(internal::MatrixFile().parent_path() / "report.html", 1 << 20);
  Json words = Json::object();
  for (const OutcomeWord& word : kOutcomeWords) words[word.name] = {{"words", word.words}, {"meaning", word.meaning}};
  Json data = {{"run", ToJson(run)}, {"before", nullptr}, {"matrix", JsonOf(matrix)}, {"outcomes", std::move(words)}};
  if (before) data["before"] = ToJson(*before);
  std::string text = data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  // "</script>" in a reason would end the script that the data is in.
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at)) text.replace(at, 1, "\\u003c");
  size_t place = page.find(kPlace);
  if (place == std::string::npos) throw HostLacks({.summary = "conformance: report.html has no place for its data"});
  return page.replace(place, kPlace.size(), text);
}

}  // namespace mayfly::cli
