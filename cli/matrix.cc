// mayfly matrix: which capability each backend has, as matrix/capabilities.json says it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/json_reader.h>
#include <mayfly/internal/matrix.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/evidence.h"
#include "cli/matrix_diff.h"
#include "cli/matrix_docs.h"
#include "cli/output.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::CellStatus;
using internal::Matrix;
using internal::MatrixCell;
using internal::MatrixDriver;
using internal::MatrixRow;
using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    "Examples:\n"
    "  mayfly matrix show                                  every capability with every backend\n"
    "  mayfly matrix show cpu.hotplug                      all about one, with reasons and sources\n"
    "  mayfly matrix show --driver qemu --status planned   what is still to be done, and why\n"
    "  mayfly matrix check                                 in a source tree: before a commit\n\n"
    "Exit codes: 0; 1 when it could not be done; 2 for a wrong command line. Each command has its own --help.";
constexpr const char* kShowFooter =
    "NO_COLOR turns colour off, CLICOLOR_FORCE=1 keeps it in a pipe.\n\n"
    "Examples:\n"
    "  mayfly matrix show --group storage\n"
    "  mayfly matrix show --driver vz --status not_possible\n"
    "  mayfly matrix show --json | jq -r '.[] | select(.drivers.ch.status == \"planned\") | .id'\n\n"
    "Exit codes: 0; 1 when there is no such capability, driver, group or status, or no matrix; 2 for a wrong command "
    "line.";
constexpr const char* kCheckFooter =
    "FILE is matrix/capabilities.json of the current directory when it is there, else the installed one. Each cell "
    "that\n"
    "says supported must have been shown on the real VMM: its record is in the directory evidence beside FILE, where\n"
    "`mayfly conformance run --record` puts it.\n\n"
    "Examples:\n"
    "  mayfly matrix check\n"
    "  mayfly matrix check other.json --without-evidence\n\n"
    "Exit codes: 0 when nothing is wrong; 1 when something is, each fault on a line of standard error; 2 for a wrong "
    "command\n"
    "line.";
constexpr const char* kDocsFooter =
    "Without an option: docs/matrix.md on standard output.\n\n"
    "Examples:\n"
    "  mayfly matrix docs --write\n"
    "  mayfly matrix docs --check --root ..\n\n"
    "Exit codes: 0; 1 when a document is out of date or cannot be written; 2 for a wrong command line.";
constexpr const char* kDiffFooter =
    "Examples:\n"
    "  git show main:matrix/capabilities.json > old.json; mayfly matrix diff old.json matrix/capabilities.json\n"
    "  mayfly matrix diff --json old.json new.json | jq '.[] | select(.field == \"drivers.qemu.status\")'\n\n"
    "Exit codes, as of diff(1): 0 when nothing changed; 1 when something did; 2 when they cannot be compared.";

struct Flags {
  std::string id{};
  std::string driver{};
  std::string group{};
  std::string status{};
  std::string file{};
  std::string other_file{};
  std::string root = ".";
  bool json = false;
  bool quiet = false;
  bool check = false;
  bool write = false;
  bool without_evidence = false;
};

constexpr const char* kInTree = "matrix/capabilities.json";

// The records of a matrix file are beside it.
EvidenceOfCells EvidenceBeside(const fs::path& file) { return ReadEvidence(file.parent_path() / "evidence"); }

// --- show -----------------------------------------------------------------------------------------------------------

// Throws BadSpec unless `word` is empty or one of the ids.
template <class Rows>
void RequireKnown(const char* what, const std::string& word, const Rows& rows) {
  std::vector<std::string_view> known;
  for (const auto& row : rows) known.push_back(row.id);
  if (word.empty() || std::find(known.begin(), known.end(), word) != known.end()) return;
  std::string hint = internal::DidYouMean(word, known);
  constexpr size_t kShortList = 20;
  if (known.size() > kShortList && !internal::Nearest(word, known)) hint = "; see: mayfly matrix show --quiet";
  throw BadSpec({.summary = fmt::format("matrix show: there is no {} {}{}", what, internal::Quoted(word), hint)});
}

struct StatusWord {
  std::string id;
};
std::vector<StatusWord> StatusWords() {
  std::vector<StatusWord> words;
  for (const internal::CellStatusRow& row : internal::kCellStatuses) words.push_back({std::string(row.name)});
  return words;
}

Colour ColourOf(CellStatus status) {
  if (status == CellStatus::kSupported) return Colour::kGreen;
  return status == CellStatus::kPlanned ? Colour::kYellow : Colour::kDim;
}

// The rows that are asked for, with the cells that are.
std::vector<MatrixRow> Selected(const Matrix& matrix, const Flags& flags) {
  RequireKnown("capability", flags.id, matrix.rows);
  RequireKnown("driver", flags.driver, matrix.drivers);
  RequireKnown("group", flags.group, matrix.groups);
  RequireKnown("status", flags.status, StatusWords());
  std::vector<MatrixRow> rows;
  for (MatrixRow row : matrix.rows) {
    if (!flags.id.empty() && row.id != flags.id) continue;
    if (!flags.group.empty() && row.group != flags.group) continue;
    std::erase_if(row.cells, [&](const auto& cell) { return !flags.driver.empty() && cell.first != flags.driver; });
    bool any = std::any_of(row.cells.begin(), row.cells.end(), [&](const auto& cell) {
      return flags.status.empty() || internal::RowOf(cell.second.status).name == flags.status;
    });
    if (any) rows.push_back(std::move(row));
  }
  return rows;
}

Json JsonOf(const MatrixCell& cell) {
  Json json = {{"status", internal::RowOf(cell.status).name}};
  auto add = [&](const char* key, const auto& value) {
    if (!value.empty()) json[key] = value;
  };
  add("since", cell.since);
  add("arch", cell.arch);
  add("modes", cell.modes);
  add("api", cell.api);
  add("needs", cell.needs);
  add("why", cell.why);
  for (const internal::MatrixNote& note : cell.notes)
    json["notes"].push_back({{"text", note.text}, {"source", note.source}});
  return json;
}

void PrintJson(const Matrix& matrix, const std::vector<MatrixRow>& rows) {
  Json all = Json::array();
  for (const MatrixRow& row : rows) {
    Json cells = Json::object();
    for (const MatrixDriver& driver : matrix.drivers) {
      if (auto cell = row.cells.find(driver.id); cell != row.cells.end()) cells[driver.id] = JsonOf(cell->second);
    }
    all.push_back(
        {{"id", row.id}, {"group", row.group}, {"title", row.title}, {"gives", row.gives}, {"drivers", cells}});
  }
  Print(all.dump(2) + "\n");
}

constexpr size_t kTextWidth = 100;

void PrintField(const char* name, const std::string& text) {
  std::string shown = name;
  for (const std::string& line : Wrapped(text, kTextWidth)) {
    Print(fmt::format("      {} {}\n", Padded(shown, 6), line));
    shown.clear();
  }
}

std::string Age(const Evidence& record) {
  int days = DaysOld(record);
  return days == 0 ? "today" : fmt::format("{} {} ago", days, days == 1 ? "day" : "days");
}

// All about one capability.
void PrintDetails(const Matrix& matrix, const MatrixRow& row, const EvidenceOfCells& evidence, bool colour) {
  Print(fmt::format("{}  {}: {}\n", Coloured(row.id, Colour::kBold, colour), row.title, row.gives));
  for (const MatrixDriver& driver : matrix.drivers) {
    auto found = row.cells.find(driver.id);
    if (found == row.cells.end()) continue;
    const MatrixCell& cell = found->second;
    std::string head = Coloured(internal::RowOf(cell.status).words, ColourOf(cell.status), colour);
    if (!cell.since.empty()) head += ", since " + cell.since;
    if (!cell.arch.empty()) head += fmt::format(", on {}", fmt::join(cell.arch, " and "));
    if (!cell.modes.empty()) head += fmt::format(", in {} mode", fmt::join(cell.modes, " and "));
    Print(fmt::format("\n{} {}\n", Padded(driver.id, 5), head));
    if (!cell.why.empty()) PrintField("why", cell.why);
    if (!cell.api.empty()) PrintField("by", fmt::format("{}", fmt::join(cell.api, ", ")));
    for (const std::string& id : cell.needs) PrintField("needs", fmt::format("{}: {}", id, matrix.FindNeed(id)->means));
    for (const internal::MatrixNote& note : cell.notes)
      PrintField("note", fmt::format("{} ({})", note.text, note.source));
    if (auto record = evidence.find({driver.id, row.id}); record != evidence.end()) {
      PrintField("shown", fmt::format("{} ({}): {}", SummaryOf(record->second), Age(record->second),
                                      WordOf(record->second.outcome).words));
    }
  }
}

std::string ShortCell(const MatrixCell& cell) {
  std::string text(internal::RowOf(cell.status).words);
  if (!cell.since.empty()) text += " (" + cell.since + ")";
  return text;
}

void PrintTable(const Matrix& matrix, const std::vector<MatrixRow>& rows, bool colour) {
  size_t id_width = 0;
  size_t title_width = 0;
  std::map<std::string, size_t> cell_widths;
  for (const MatrixRow& row : rows) {
    id_width = std::max(id_width, Width(row.id));
    title_width = std::max(title_width, Width(row.title));
    for (const auto& [driver, cell] : row.cells) {
      cell_widths[driver] = std::max({cell_widths[driver], Width(driver), Width(ShortCell(cell))});
    }
  }
  std::string head = Padded("", id_width + title_width + 4);
  for (const MatrixDriver& driver : matrix.drivers) {
    if (cell_widths.contains(driver.id)) head += Padded(driver.id, cell_widths[driver.id]) + "  ";
  }
  auto print = [&](const std::string& line) { Print(line.substr(0, line.find_last_not_of(' ') + 1) + "\n"); };
  print(Coloured(head, Colour::kBold, colour));
  bool one_driver = cell_widths.size() == 1;
  for (const MatrixRow& row : rows) {
    std::string line = Padded(row.id, id_width) + "  " + Padded(row.title, title_width) + "  ";
    for (const MatrixDriver& driver : matrix.drivers) {
      auto cell = row.cells.find(driver.id);
      if (cell == row.cells.end()) continue;
      std::string text = Padded(ShortCell(cell->second), cell_widths[driver.id]);
      line += Coloured(text, ColourOf(cell->second.status), colour) + "  ";
      if (one_driver) line += cell->second.why;
    }
    print(line);
  }
  Print(fmt::format("\n{} of {} capabilities", rows.size(), matrix.rows.size()));
  for (const MatrixDriver& driver : matrix.drivers) {
    auto supported = std::count_if(rows.begin(), rows.end(), [&](const MatrixRow& row) {
      auto cell = row.cells.find(driver.id);
      return cell != row.cells.end() && cell->second.status == CellStatus::kSupported;
    });
    if (cell_widths.contains(driver.id)) Print(fmt::format("; {} supported by {}", supported, driver.id));
  }
  Print("\n");
}

int Show(const Flags& flags) {
  Matrix matrix = internal::LoadMatrix();
  std::vector<MatrixRow> rows = Selected(matrix, flags);
  bool colour = WantsColour(STDOUT_FILENO);
  if (flags.json) {
    PrintJson(matrix, rows);
  } else if (flags.quiet) {
    for (const MatrixRow& row : rows) Print(row.id + "\n");
  } else if (rows.empty()) {
    Print("there is no such cell\n");
  } else if (!flags.id.empty()) {
    PrintDetails(matrix, rows.front(), EvidenceBeside(internal::MatrixFile()), colour);
  } else {
    PrintTable(matrix, rows, colour);
  }
  return 0;
}

// --- check ----------------------------------------------------------------------------------------------------------

int Check(const Flags& flags) {
  fs::path file = flags.file;
  if (file.empty()) file = fs::exists(kInTree) ? fs::path(kInTree) : internal::MatrixFile();
  std::string text = ReadTextFile("FILE", file);
  std::vector<std::string> faults = internal::MatrixFaults(text, file.string());
  if (faults.empty() && !flags.without_evidence) {
    faults = EvidenceFaults(internal::MatrixFromJson(text, file.string()), EvidenceBeside(file));
  }
  for (const std::string& fault : faults) Complain(fault);
  if (!faults.empty()) {
    throw BadSpec({.summary = fmt::format("matrix check: {} {} in {}", faults.size(),
                                          faults.size() == 1 ? "fault" : "faults", file.string())});
  }
  if (flags.quiet) return 0;
  Matrix matrix = internal::MatrixFromJson(text, file.string());
  Print(fmt::format("{}: {} capabilities, {} backends, {} cells: ok\n", file.string(), matrix.rows.size(),
                    matrix.drivers.size(), matrix.rows.size() * matrix.drivers.size()));
  return 0;
}

// --- docs -----------------------------------------------------------------------------------------------------------

int Docs(const Flags& flags) {
  fs::path root = flags.root;
  if (!fs::exists(root / kInTree)) {
    throw BadSpec({.summary = fmt::format("matrix docs: {} has no {}", internal::Quoted(root.string()), kInTree),
                   .next_step = "run it in mayfly's source tree, or name that: mayfly matrix docs --root DIR"});
  }
  Matrix matrix = internal::LoadMatrix(root / kInTree);
  EvidenceOfCells evidence = EvidenceBeside(root / kInTree);
  if (!flags.check && !flags.write) {
    Print(MatrixPage(matrix, evidence));
    return 0;
  }
  std::vector<std::string> stale;
  for (const MatrixDocument& document : MatrixDocuments(matrix, evidence, root)) {
    if (document.found == document.wanted) continue;
    stale.push_back(document.file.lexically_relative(root).string());
    if (!flags.write) continue;
    fs::create_directories(document.file.parent_path());
    internal::WriteWholeFile(document.file, document.wanted);
    Print(fmt::format("wrote {}\n", document.file.lexically_normal().string()));
  }
  if (stale.empty()) Print("the documents are as the matrix says\n");
  if (stale.empty() || flags.write) return 0;
  throw BadSpec({.summary = fmt::format("matrix docs: not as {} says: {}", kInTree, fmt::join(stale, ", ")),
                 .next_step = "mayfly matrix docs --write"});
}

// --- diff -----------------------------------------------------------------------------------------------------------

std::string Told(const MatrixChange& change) {
  if (change.field.empty()) return change.before.empty() ? "new" : "gone";
  if (change.before.empty()) return fmt::format("{}: {}", change.field, change.after);
  if (change.after.empty()) return fmt::format("{}: gone, was: {}", change.field, change.before);
  return fmt::format("{}: {} → {}", change.field, change.before, change.after);
}

int Diff(const Flags& flags) {
  std::vector<nlohmann::json> documents;
  for (const std::string& file : {flags.file, flags.other_file}) {
    documents.push_back(internal::ParseJson(internal::SpecPath(file), ReadTextFile("FILE", file)));
  }
  std::vector<MatrixChange> changes = ChangesBetween(documents[0], documents[1]);
  if (flags.json) {
    Json all = Json::array();
    for (const MatrixChange& c : changes) {
      all.push_back({{"list", c.list}, {"row", c.row}, {"field", c.field}, {"before", c.before}, {"after", c.after}});
    }
    Print(all.dump(2) + "\n");
  } else {
    for (const MatrixChange& change : changes) {
      std::string row = change.list == "capabilities" ? change.row : change.list + "." + change.row;
      Print(fmt::format("{}: {}\n", row, Told(change)));
    }
    if (changes.empty()) Print("nothing changed\n");
  }
  return changes.empty() ? 0 : kFailed;
}

// Its own codes: 1 means that something changed.
int DiffOrUsage(const Flags& flags) {
  try {
    return Diff(flags);
  } catch (const Error& error) {
    Complain(error.what());
    return kUsage;
  }
}

}  // namespace

void AddMatrix(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<Flags>();
  CLI::App& matrix = *app.add_subcommand("matrix", "Which capability each backend has: show, check, docs, diff");
  matrix.require_subcommand(1);
  matrix.footer(kFooter);
  auto add = [&](const char* name, const char* description, const char* footer,
                 int (*function)(const Flags&)) -> CLI::App& {
    CLI::App& sub = *matrix.add_subcommand(name, description);
    sub.footer(footer);
    sub.callback([flags, function, &chosen] { chosen = [flags, function] { return function(*flags); }; });
    return sub;
  };

  CLI::App& show = add("show", "The matrix, or all about one capability", kShowFooter, Show);
  show.add_option("ID", flags->id, "The capability, such as cpu.hotplug")->type_name("");
  show.add_option("--driver", flags->driver, "This backend's cells only")->type_name("DRIVER");
  show.add_option("--group", flags->group, "This group only, such as storage")->type_name("GROUP");
  show.add_option("--status", flags->status, "Rows with a cell of this status, such as planned")->type_name("STATUS");
  show.add_flag("-q,--quiet", flags->quiet, "Ids only");
  show.add_flag("--json", flags->json, "As JSON");

  CLI::App& check = add("check", "Whether a matrix file is as it should be", kCheckFooter, Check);
  check.add_option("FILE", flags->file, "The file")->type_name("");
  check.add_flag("-q,--quiet", flags->quiet, "Say nothing when nothing is wrong");
  check.add_flag("--without-evidence", flags->without_evidence, "Do not ask whether what is supported was shown");

  CLI::App& docs = add("docs", "The documents that are made from the matrix", kDocsFooter, Docs);
  CLI::Option* check_flag =
      docs.add_flag("--check", flags->check, "Fail when docs/matrix.md or README.md is out of date");
  docs.add_flag("--write", flags->write, "Write both")->excludes(check_flag);
  docs.add_option("--root", flags->root, "mayfly's source tree; default: the current directory")
      ->type_name("DIRECTORY");

  CLI::App& diff = add("diff", "What changed between two matrix files", kDiffFooter, DiffOrUsage);
  diff.add_option("OLD", flags->file, "The file before")->required()->type_name("");
  diff.add_option("NEW", flags->other_file, "The file after")->required()->type_name("");
  diff.add_flag("--json", flags->json, "As JSON");
}

}  // namespace mayfly::cli
