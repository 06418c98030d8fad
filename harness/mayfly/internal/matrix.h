// The capability matrix: what each backend has, read from matrix/capabilities.json.
//
//   Matrix matrix = LoadMatrix();
//   for (const MatrixRow& row : matrix.rows) …
//   const MatrixCell& cell = matrix.Find("cpu.hotplug")->cells.at("qemu");
//   if (cell.status == CellStatus::kSupported) …
//
// The file is the one place where this is written down. A row is a capability; a cell is that capability with one
// backend. It is held to a JSON schema beside it (matrix/capabilities.schema.json), and to what a schema cannot say:
// ids are there once and known where they are used, rows stand grouped, what is refused or planned says why, and each
// call that a backend lists stands in a cell.
//
// The enum Capability (capability.h) is made from the same file when the library is built; this is for those who need
// more than the name at run time. The file that they find may be another one than was built in: the library asks for
// no row by position.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

enum class CellStatus { kSupported, kPlanned, kNotPossible, kNotWrapped, kNotPlanned, kNotApplicable };

struct CellStatusRow {
  std::string_view name;     // in JSON
  std::string_view words;    // for people
  std::string_view meaning;  // a sentence without its end
};
inline constexpr std::array<CellStatusRow, 6> kCellStatuses = {{
    {"supported", "supported", "the driver has it, and a test shows it on the real VMM"},
    {"planned", "planned", "the backend has it, the driver does not have it yet or it was not shown yet"},
    {"not_possible", "not possible", "the backend cannot have it"},
    {"not_wrapped", "not wrapped", "the backend has it, but nothing in mayfly asks for it"},
    {"not_planned", "not planned", "it could be had, and nobody intends to"},
    {"not_applicable", "not applicable", "the question makes no sense for this backend"},
}};
constexpr const CellStatusRow& RowOf(CellStatus status) { return kCellStatuses[static_cast<size_t>(status)]; }

// Whether asking for it must be answered by Unsupported.
constexpr bool IsRefused(CellStatus status) {
  return status != CellStatus::kSupported && status != CellStatus::kPlanned;
}

struct MatrixNote {
  std::string text{};
  std::string source{};  // where it is written: a document and its section, or the name of a call
};

struct MatrixCell {
  CellStatus status = CellStatus::kPlanned;
  std::string since{};               // "QEMU 7.2", "v0.5.0", "macOS 14"; empty: all that mayfly works with
  std::vector<std::string> arch{};   // processors; empty: all
  std::vector<std::string> modes{};  // of the driver's modes; empty: all
  std::vector<std::string> api{};    // the backend's own names for it
  std::vector<std::string> needs{};  // of the host, besides the driver's own
  std::string why{};                 // where it is not supported
  std::vector<MatrixNote> notes{};
};

struct MatrixRow {
  std::string id{};
  std::string group{};
  std::string title{};
  std::string gives{};
  std::map<std::string, MatrixCell> cells{};  // by driver
};

struct MatrixDriver {
  std::string id{};
  std::string title{};
  std::string about{};
  std::string versions{};  // the word before a version
  std::vector<std::string> modes{};
  std::vector<std::string> needs{};  // for each of its cells
  std::string why{};                 // of planned cells that give no reason of their own
  std::vector<std::string> api{};    // calls that a cell must name
};

struct MatrixGroup {
  std::string id{};
  std::string title{};
};

// Something that a host has or lacks, such as a program, a device or a right.
struct MatrixNeed {
  std::string id{};
  std::string means{};
  std::string fix{};
};

struct Matrix {
  std::vector<MatrixDriver> drivers{};
  std::vector<MatrixGroup> groups{};
  std::vector<MatrixNeed> needs{};
  std::vector<MatrixRow> rows{};

  // Null when there is none.
  const MatrixRow* Find(std::string_view id) const;
  const MatrixDriver* FindDriver(std::string_view id) const;
  const MatrixNeed* FindNeed(std::string_view id) const;
};

// Where the matrix and its schema are: the data directory (image.h).
std::filesystem::path MatrixFile();

// All faults of a text that should be a matrix, each on one line: file, row, field, value and what is allowed. Throws
// BadSpec when the text is not even JSON, HostLacks when the schema is not there.
std::vector<std::string> MatrixFaults(std::string_view json, std::string_view origin);

// Throws BadSpec with the first fault and, as notes, all others.
Matrix MatrixFromJson(std::string_view json, std::string_view origin);
Matrix LoadMatrix(const std::filesystem::path& file = MatrixFile());

}  // namespace mayfly::internal
