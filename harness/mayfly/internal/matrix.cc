#include <mayfly/internal/matrix.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/json_reader.h>
#include <mayfly/internal/json_schema.h>
#include <mayfly/internal/matrix_rules.h>
#include <mayfly/internal/spec_fault.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mayfly::internal {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr uint64_t kLongestFile = 1 << 20;

// "cpu.hotplug: drivers.ch.status" for {"capabilities", "7", "drivers", "ch", "status"}; other lists' rows begin with
// the list.
std::string PlaceOf(const json& document, const std::vector<std::string>& path) {
  std::string place;
  const json* value = &document;
  for (const std::string& key : path) {
    bool in_list = value->is_array();
    value = in_list ? &value->at(std::stoul(key)) : &value->at(key);
    if (!in_list) {
      place += (place.empty() || place.ends_with(' ') ? "" : ".") + key;
      continue;
    }
    const bool named = value->is_object() && value->contains("id") && value->at("id").is_string();
    if (!named) {
      place += fmt::format("[{}]", key);
    } else if (place == "capabilities") {
      place = value->at("id").get<std::string>() + ": ";
    } else {
      place += fmt::format(".{}: ", value->at("id").get<std::string>());
    }
  }
  while (place.ends_with(' ') || place.ends_with(':')) place.pop_back();
  return place;
}

std::vector<std::string> Texts(const json& object, const char* key) {
  return object.value(key, std::vector<std::string>());
}

std::string Text(const json& object, const char* key) { return object.value(key, std::string()); }

CellStatus StatusOf(const json& cell) {
  auto name = cell.at("status").get<std::string>();
  auto found =
      std::find_if(kCellStatuses.begin(), kCellStatuses.end(), [&](const auto& row) { return row.name == name; });
  return static_cast<CellStatus>(found - kCellStatuses.begin());
}

MatrixCell CellOf(const json& cell) {
  MatrixCell out{.status = StatusOf(cell),
                 .since = Text(cell, "since"),
                 .arch = Texts(cell, "arch"),
                 .modes = Texts(cell, "modes"),
                 .api = Texts(cell, "api"),
                 .needs = Texts(cell, "needs"),
                 .why = Text(cell, "why")};
  for (const json& note : cell.value("notes", json::array())) {
    out.notes.push_back({Text(note, "text"), Text(note, "source")});
  }
  return out;
}

// Of a document that has the form of the schema.
Matrix Read(const json& document) {
  Matrix matrix;
  for (const json& driver : document.at("drivers")) {
    matrix.drivers.push_back({.id = Text(driver, "id"),
                              .title = Text(driver, "title"),
                              .about = Text(driver, "about"),
                              .versions = Text(driver, "versions"),
                              .modes = Texts(driver, "modes"),
                              .needs = Texts(driver, "needs"),
                              .why = Text(driver, "why"),
                              .api = Texts(driver, "api")});
  }
  for (const json& group : document.at("groups")) matrix.groups.push_back({Text(group, "id"), Text(group, "title")});
  for (const json& need : document.at("needs")) {
    matrix.needs.push_back({Text(need, "id"), Text(need, "means"), Text(need, "fix")});
  }
  for (const json& row : document.at("capabilities")) {
    MatrixRow& out = matrix.rows.emplace_back();
    out = {Text(row, "id"), Text(row, "group"), Text(row, "title"), Text(row, "gives"), {}};
    for (const auto& [driver, cell] : row.at("drivers").items()) out.cells.emplace(driver, CellOf(cell));
  }
  return matrix;
}

// The reason of a driver for all that it plans, where the cell has none.
void FillInReasons(Matrix& matrix) {
  for (MatrixRow& row : matrix.rows) {
    for (auto& [driver, cell] : row.cells) {
      if (cell.status == CellStatus::kPlanned && cell.why.empty()) cell.why = matrix.FindDriver(driver)->why;
    }
  }
}

json Schema() {
  fs::path file = MatrixFile().replace_filename("capabilities.schema.json");
  return ParseJson(SpecPath(file.string()), ReadWholeFile(file, kLongestFile));
}

// What is wrong with a document; where nothing is, `matrix` is what it says.
std::vector<std::string> FaultsOf(const json& document, std::string_view origin, Matrix& matrix) {
  std::vector<std::string> faults;
  for (const SchemaFault& fault : FaultsAgainst(Schema(), document)) {
    std::string place = PlaceOf(document, fault.path);
    faults.push_back(fmt::format("{}: {}{}{}", origin, place, place.empty() ? "" : ": ", fault.text));
  }
  if (!faults.empty()) return faults;
  matrix = Read(document);
  for (const std::string& fault : MatrixRuleFaults(matrix)) faults.push_back(fmt::format("{}: {}", origin, fault));
  return faults;
}

template <class Rows>
auto* FindById(const Rows& rows, std::string_view id) {
  auto found = std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return row.id == id; });
  return found == rows.end() ? nullptr : &*found;
}

}  // namespace

const MatrixRow* Matrix::Find(std::string_view id) const { return FindById(rows, id); }
const MatrixDriver* Matrix::FindDriver(std::string_view id) const { return FindById(drivers, id); }
const MatrixNeed* Matrix::FindNeed(std::string_view id) const { return FindById(needs, id); }

fs::path MatrixFile() { return DataDirectory() / "matrix" / "capabilities.json"; }

std::vector<std::string> MatrixFaults(std::string_view json, std::string_view origin) {
  Matrix unused;
  return FaultsOf(ParseJson(SpecPath(origin), json), origin, unused);
}

Matrix MatrixFromJson(std::string_view json, std::string_view origin) {
  Matrix matrix;
  std::vector<std::string> faults = FaultsOf(ParseJson(SpecPath(origin), json), origin, matrix);
  if (!faults.empty()) {
    throw BadSpec({.summary = faults.front(), .notes = {faults.begin() + 1, faults.end()}});
  }
  FillInReasons(matrix);
  return matrix;
}

Matrix LoadMatrix(const fs::path& file) { return MatrixFromJson(ReadWholeFile(file, kLongestFile), file.string()); }

}  // namespace mayfly::internal
