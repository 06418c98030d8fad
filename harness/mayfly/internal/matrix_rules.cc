#include <mayfly/internal/matrix_rules.h>

#include <fmt/format.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace mayfly::internal {
namespace {

// The ids of one list; each may be used elsewhere.
class Ids {
 public:
  template <class Rows>
  Ids(std::string_view what, const Rows& rows) : what_(what) {
    for (const auto& row : rows) words_.push_back(row.id);
  }

  bool Has(std::string_view word) const { return std::find(words_.begin(), words_.end(), word) != words_.end(); }
  // "\"kmv\" is no need; did you mean \"kvm\"?"
  std::string Unknown(std::string_view word) const {
    return fmt::format("{} is no {}{}", Quoted(word), what_, DidYouMean(word, words_));
  }

 private:
  std::string_view what_;
  std::vector<std::string_view> words_;
};

// Whether `word` stands in `text` as a whole: "vm.resize" does not in "PUT vm.resize-disk".
bool Mentions(std::string_view text, std::string_view word) {
  auto is_part = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
  };
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    size_t end = at + word.size();
    if ((at == 0 || !is_part(text[at - 1])) && (end == text.size() || !is_part(text[end]))) return true;
  }
  return false;
}

class Rules {
 public:
  explicit Rules(const Matrix& matrix)
      : matrix_(matrix),
        drivers_("driver", matrix.drivers),
        groups_("group", matrix.groups),
        needs_("need", matrix.needs) {}

  std::vector<std::string> Faults() {
    CheckIds("drivers", matrix_.drivers);
    CheckIds("groups", matrix_.groups);
    CheckIds("needs", matrix_.needs);
    CheckIds("capabilities", matrix_.rows);
    for (const MatrixDriver& driver : matrix_.drivers) CheckDriver(driver);
    CheckOrder();
    for (const MatrixRow& row : matrix_.rows) CheckRow(row);
    CheckUse();
    return std::move(faults_);
  }

 private:
  template <class... Parts>
  void Add(fmt::format_string<Parts...> format, Parts&&... parts) {
    faults_.push_back(fmt::format(format, std::forward<Parts>(parts)...));
  }

  template <class Rows>
  void CheckIds(std::string_view list, const Rows& rows) {
    std::set<std::string_view> seen;
    for (const auto& row : rows) {
      if (!seen.insert(row.id).second) Add("{}: id: {} is there twice", list, Quoted(row.id));
    }
  }

  void CheckNeeds(const std::string& place, const std::vector<std::string>& needs) {
    for (const std::string& need : needs) {
      if (!needs_.Has(need)) Add("{}needs: {}", place, needs_.Unknown(need));
    }
  }

  void CheckDriver(const MatrixDriver& driver) {
    CheckNeeds(fmt::format("drivers.{}: ", driver.id), driver.needs);
    for (const std::string& call : driver.api) {
      bool named = std::any_of(matrix_.rows.begin(), matrix_.rows.end(), [&](const MatrixRow& row) {
        auto cell = row.cells.find(driver.id);
        return cell != row.cells.end() && std::any_of(cell->second.api.begin(), cell->second.api.end(),
                                                      [&](const std::string& text) { return Mentions(text, call); });
      });
      if (!named) Add("drivers.{}: api: no capability names {} in its own api", driver.id, Quoted(call));
    }
  }

  // Rows of a group stand together, groups in the order of their list.
  void CheckOrder() {
    size_t last = 0;
    for (const MatrixRow& row : matrix_.rows) {
      auto group =
          std::find_if(matrix_.groups.begin(), matrix_.groups.end(), [&](const auto& g) { return g.id == row.group; });
      if (group == matrix_.groups.end()) continue;  // told by CheckRow
      auto place = static_cast<size_t>(group - matrix_.groups.begin());
      if (place < last) {
        Add("{}: group: the row stands after those of {}; allowed: with its group, in the order of groups", row.id,
            Quoted(matrix_.groups[last].id));
      }
      last = std::max(last, place);
    }
  }

  void CheckRow(const MatrixRow& row) {
    if (!groups_.Has(row.group)) {
      Add("{}: group: {}", row.id, groups_.Unknown(row.group));
    } else if (!row.id.starts_with(row.group + ".")) {
      Add("{}: id: {} does not begin with its group; allowed: \"{}.\" and a word", row.id, Quoted(row.id), row.group);
    }
    for (const MatrixDriver& driver : matrix_.drivers) {
      if (row.cells.find(driver.id) == row.cells.end()) Add("{}: drivers: {} is missing", row.id, Quoted(driver.id));
    }
    for (const auto& [driver, cell] : row.cells) {
      if (const MatrixDriver* owner = matrix_.FindDriver(driver)) {
        CheckCell(fmt::format("{}: drivers.{}.", row.id, driver), *owner, cell);
      } else {
        Add("{}: drivers: {}", row.id, drivers_.Unknown(driver));
      }
    }
  }

  void CheckCell(const std::string& place, const MatrixDriver& driver, const MatrixCell& cell) {
    const std::string_view status = RowOf(cell.status).name;
    CheckNeeds(place, cell.needs);
    for (const std::string& mode : cell.modes) {
      if (std::find(driver.modes.begin(), driver.modes.end(), mode) != driver.modes.end()) continue;
      std::vector<std::string_view> known(driver.modes.begin(), driver.modes.end());
      Add("{}modes: {} is no mode of this driver{}", place, Quoted(mode), DidYouMean(mode, known));
    }
    std::string_view version = cell.since;
    if (!version.empty() &&
        (!version.starts_with(driver.versions) ||
         version.substr(driver.versions.size()).find_first_not_of(" .0123456789") != std::string_view::npos)) {
      Add("{}since: {} is no version of this driver; allowed: {} and a number", place, Quoted(version),
          Quoted(driver.versions));
    }
    bool has_reason = !cell.why.empty() || (cell.status == CellStatus::kPlanned && !driver.why.empty());
    if (cell.status != CellStatus::kSupported && !has_reason) {
      Add("{}why is missing: what is {} says why", place, status);
    }
    if (cell.status == CellStatus::kSupported && !cell.why.empty()) {
      Add("{}why: {} is not allowed: what is supported needs no reason", place, Quoted(cell.why));
    }
    if (!IsRefused(cell.status) && cell.api.empty())
      Add("{}api is missing: what is {} names the backend's call", place, status);
    if (IsRefused(cell.status) && !cell.needs.empty()) {
      Add("{}needs: {} is not allowed: what is {} needs nothing", place, Quoted(cell.needs.front()), status);
    }
  }

  // A list's row that nothing refers to is a left-over or a slip elsewhere.
  void CheckUse() {
    std::set<std::string_view> used;
    for (const MatrixDriver& driver : matrix_.drivers) used.insert(driver.needs.begin(), driver.needs.end());
    for (const MatrixRow& row : matrix_.rows) {
      used.insert(row.group);
      for (const auto& [driver, cell] : row.cells) used.insert(cell.needs.begin(), cell.needs.end());
    }
    for (const MatrixNeed& need : matrix_.needs) {
      if (!used.contains(need.id)) Add("needs.{}: nothing needs it", need.id);
    }
    for (const MatrixGroup& group : matrix_.groups) {
      if (!used.contains(group.id)) Add("groups.{}: it has no rows", group.id);
    }
  }

  const Matrix& matrix_;
  Ids drivers_;
  Ids groups_;
  Ids needs_;
  std::vector<std::string> faults_;
};

}  // namespace

std::vector<std::string> MatrixRuleFaults(const Matrix& matrix) { return Rules(matrix).Faults(); }

}  // namespace mayfly::internal
