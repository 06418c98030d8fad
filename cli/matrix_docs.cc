#include "cli/matrix_docs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>

#include <algorithm>

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::CellStatus;
using internal::Matrix;
using internal::MatrixCell;
using internal::MatrixDriver;
using internal::MatrixRow;

constexpr uint64_t kLongestDocument = 4 << 20;
constexpr const char* kGenerator =
    "Generated from matrix/capabilities.json by `mayfly matrix docs --write`: edit that file, not this.";
constexpr std::string_view kPlace = "<!-- matrix -->";
constexpr std::string_view kBegin = "<!-- matrix: begin.";
constexpr std::string_view kEnd = "<!-- matrix: end -->";

// In a cell of a table.
std::string Escaped(std::string_view text) {
  std::string out;
  for (char c : text) out += c == '|' ? "\\|" : std::string(1, c);
  return out;
}

std::string Code(const std::string& text) { return "`" + text + "`"; }

std::string CodeList(const std::vector<std::string>& texts) {
  std::vector<std::string> codes;
  for (const std::string& text : texts) codes.push_back(Code(text));
  return fmt::format("{}", fmt::join(codes, ", "));
}

std::string TableRow(const std::vector<std::string>& columns) {
  return fmt::format("| {} |\n", fmt::join(columns, " | "));
}

std::string TableHead(const std::vector<std::string>& columns) {
  return TableRow(columns) + TableRow(std::vector<std::string>(columns.size(), "---"));
}

std::vector<std::string> WithDrivers(std::vector<std::string> columns, const Matrix& matrix) {
  for (const MatrixDriver& driver : matrix.drivers) columns.push_back(driver.title);
  return columns;
}

// "5 supported, 4 planned, 1 refused", of the rows of a group (empty: of all).
std::string Summary(const Matrix& matrix, const std::string& group, const std::string& driver) {
  size_t rows = 0;
  size_t supported = 0;
  size_t planned = 0;
  for (const MatrixRow& row : matrix.rows) {
    if (!group.empty() && row.group != group) continue;
    CellStatus status = row.cells.at(driver).status;
    ++rows;
    supported += status == CellStatus::kSupported ? 1 : 0;
    planned += status == CellStatus::kPlanned ? 1 : 0;
  }
  std::vector<std::string> parts;
  const std::pair<size_t, const char*> counts[] = {
      {supported, "supported"}, {planned, "planned"}, {rows - supported - planned, "refused"}};
  for (const auto& [count, word] : counts) {
    if (count > 0) parts.push_back(count == rows ? fmt::format("all {}", word) : fmt::format("{} {}", count, word));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string GroupTable(const Matrix& matrix) {
  std::string text = TableHead(WithDrivers({"capabilities"}, matrix));
  auto add = [&](const std::string& title, const std::string& group) {
    std::vector<std::string> columns = {title};
    for (const MatrixDriver& driver : matrix.drivers) columns.push_back(Summary(matrix, group, driver.id));
    text += TableRow(columns);
  };
  for (const internal::MatrixGroup& group : matrix.groups) add(group.title, group.id);
  add(fmt::format("**all {}**", matrix.rows.size()), "");
  return text;
}

std::string StatusTable() {
  std::string text = TableHead({"status", "meaning", "what its conformance test does"});
  for (size_t i = 0; i < internal::kCellStatuses.size(); ++i) {
    const char* test = "asks for it: it must be refused with `Unsupported`, and the VM stays unharmed";
    if (i == static_cast<size_t>(CellStatus::kSupported)) test = "runs the scenario, which must pass";
    if (i == static_cast<size_t>(CellStatus::kPlanned)) {
      test = "runs the scenario, which is expected to fail; one that passes asks to be promoted";
    }
    text += TableRow(
        {std::string(internal::kCellStatuses[i].words), std::string(internal::kCellStatuses[i].meaning), test});
  }
  return text;
}

std::string ShortCell(const MatrixCell& cell) {
  std::string text(internal::RowOf(cell.status).words);
  if (!cell.since.empty()) text += fmt::format(" ({})", cell.since);
  return text;
}

std::string Anchor(std::string id) {
  std::erase(id, '.');
  return id;
}

std::string Details(const MatrixDriver& driver, const MatrixCell& cell) {
  std::string text = fmt::format("- **{}**: {}", driver.title, internal::RowOf(cell.status).words);
  if (!cell.since.empty()) text += fmt::format(", since {}", cell.since);
  if (!cell.arch.empty()) text += fmt::format(", on {}", fmt::join(cell.arch, " and "));
  if (!cell.modes.empty()) text += fmt::format(", in {} mode", fmt::join(cell.modes, " and "));
  if (!cell.why.empty()) text += fmt::format(": {}", cell.why);
  text += ".";
  if (!cell.api.empty()) text += fmt::format(" By {}.", CodeList(cell.api));
  if (!cell.needs.empty()) text += fmt::format(" Needs {}.", CodeList(cell.needs));
  text += "\n";
  for (const internal::MatrixNote& note : cell.notes) text += fmt::format("  - {} *({})*\n", note.text, note.source);
  return text;
}

std::string EvidenceLine(const Evidence& record) {
  std::string text = fmt::format("  - shown {}", SummaryOf(record));
  auto lacking = std::count_if(record.tests.begin(), record.tests.end(),
                               [](const EvidenceTest& test) { return test.outcome == "not_verified"; });
  if (record.outcome != "pass") text = fmt::format("  - {} {}", WordOf(record.outcome).words, SummaryOf(record));
  if (lacking > 0) text += fmt::format("; {} of its {} tests could not be run there", lacking, record.tests.size());
  return text + "\n";
}

// How many of a driver's cells were shown, and when.
std::string EvidenceSummary(const std::string& driver, const EvidenceOfCells& evidence) {
  size_t count = 0;
  std::string oldest;
  std::string newest;
  for (const auto& [cell, record] : evidence) {
    if (cell.first != driver || !record.Proves()) continue;
    ++count;
    if (oldest.empty() || record.date < oldest) oldest = record.date;
    newest = std::max(newest, record.date);
  }
  if (count == 0) return "none yet";
  return fmt::format("{} cells, {}", count, oldest == newest ? oldest : oldest + " to " + newest);
}

std::string DriverTable(const Matrix& matrix, const EvidenceOfCells& evidence) {
  std::string text =
      TableHead({"backend", "in mayfly", "what it is", "needs for each capability", "shown on the real VMM"});
  for (const MatrixDriver& driver : matrix.drivers) {
    text += TableRow({driver.title, Code(driver.id), Escaped(driver.about), CodeList(driver.needs),
                      EvidenceSummary(driver.id, evidence)});
  }
  return text;
}

std::string NeedTable(const Matrix& matrix) {
  std::string text = TableHead({"need", "what it means", "how to get it"});
  for (const internal::MatrixNeed& need : matrix.needs) {
    text += TableRow({Code(need.id), Escaped(need.means), Escaped(need.fix)});
  }
  return text;
}

std::string Table(const Matrix& matrix, const std::string& group) {
  std::string text = TableHead(WithDrivers({"capability", "what a test gets"}, matrix));
  for (const MatrixRow& row : matrix.rows) {
    if (row.group != group) continue;
    std::vector<std::string> columns = {fmt::format("[{}](#{})", row.title, Anchor(row.id)), Escaped(row.gives)};
    for (const MatrixDriver& driver : matrix.drivers) columns.push_back(ShortCell(row.cells.at(driver.id)));
    text += TableRow(columns);
  }
  return text;
}

std::string ReadmeBlock(const Matrix& matrix) {
  return fmt::format(
      "{} {} -->\n{}\nEvery cell, with reasons and sources: [docs/matrix.md](docs/matrix.md). "
      "How each is shown on a real VMM: [docs/conformance.md](docs/conformance.md).\n{}\n",
      kBegin, kGenerator, GroupTable(matrix), kEnd);
}

std::string ReadIfThere(const fs::path& file) {
  return fs::exists(file) ? internal::ReadWholeFile(file, kLongestDocument) : std::string();
}

}  // namespace

std::string MatrixPage(const Matrix& matrix, const EvidenceOfCells& evidence) {
  std::string text = fmt::format(
      "<!-- {} -->\n# What each backend has\n\nEach of {} capabilities with each of {} backends, as "
      "[matrix/capabilities.json](../matrix/capabilities.json) says it: the enum `Capability`, this page, the table in "
      "the "
      "README and the conformance tests are made from that file.\n\n{}\n{}\n{}\n",
      kGenerator, matrix.rows.size(), matrix.drivers.size(), GroupTable(matrix), StatusTable(),
      DriverTable(matrix, evidence));
  for (const internal::MatrixGroup& group : matrix.groups) {
    text += fmt::format("## {}\n\n{}\n", group.title, Table(matrix, group.id));
  }
  text += fmt::format(
      "## What a host needs\n\nWhere a host lacks what a cell needs, its test is skipped and reported as "
      "*not verified here*; `mayfly doctor` tells which and how to get it.\n\n{}\n",
      NeedTable(matrix));
  text += "## Details\n";
  for (const MatrixRow& row : matrix.rows) {
    text += fmt::format("\n### {}\n\n{}: {}.\n\n", row.id, row.title, row.gives);
    for (const MatrixDriver& driver : matrix.drivers) {
      text += Details(driver, row.cells.at(driver.id));
      if (auto record = evidence.find({driver.id, row.id}); record != evidence.end()) {
        text += EvidenceLine(record->second);
      }
    }
  }
  return text;
}

std::string ReadmeWithTable(std::string_view readme, const Matrix& matrix) {
  std::string text(readme);
  std::string block = ReadmeBlock(matrix);
  size_t begin = text.find(kBegin);
  size_t end = text.find(kEnd);
  if (begin != std::string::npos && end != std::string::npos && begin < end) {
    size_t after = std::min(text.size(), end + kEnd.size() + 1);  // with its line's end
    return text.replace(begin, after - begin, block);
  }
  if (begin != std::string::npos || end != std::string::npos) {
    throw BadSpec({.summary = fmt::format(
                       "README.md: of the lines \"{} …\" and \"{}\" one is missing, or they are swapped", kBegin, kEnd),
                   .next_step = fmt::format("put the line \"{}\" where the table shall be, and remove them", kPlace)});
  }
  if (size_t place = text.find(kPlace); place != std::string::npos) {
    size_t after = std::min(text.size(), place + kPlace.size() + 1);
    return text.replace(place, after - place, block);
  }
  if (!text.empty() && !text.ends_with('\n')) text += '\n';
  return text + "\n## What each backend has\n" + block;
}

std::vector<MatrixDocument> MatrixDocuments(const Matrix& matrix, const EvidenceOfCells& evidence,
                                            const fs::path& root) {
  fs::path page = root / "docs" / "matrix.md";
  fs::path readme = root / "README.md";
  std::string old_readme = ReadIfThere(readme);
  return {{page, ReadIfThere(page), MatrixPage(matrix, evidence)},
          {readme, old_readme, ReadmeWithTable(old_readme, matrix)}};
}

}  // namespace mayfly::cli
