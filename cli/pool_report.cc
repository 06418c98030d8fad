#include "cli/pool_report.h"

#include <fmt/format.h>
#include <mayfly/bytes.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cli/output.h"

namespace mayfly::cli {
namespace {

using nlohmann::json;
using Row = std::array<std::string, 5>;

Bytes BytesIn(const json& object, const char* key) { return Bytes(object.value(key, uint64_t{0})); }

std::string Seconds(const json& object, Duration age) {
  auto since = std::chrono::duration<double>(object.value("seconds", 0.0));
  auto whole = std::chrono::duration_cast<std::chrono::seconds>(since + age);  // a tenth of a second is out of date
  return ForPeople(Duration(whole));
}

std::string Cpus(const json& object) { return fmt::format("{:.3g}", object.value("cpus", 0.0)); }

Row RowOf(const json& lease, const char* verb, Duration age) {
  return {lease.value("name", ""), ForPeople(BytesIn(lease, "memory")), Cpus(lease),
          fmt::format("{} ({})", lease.value("program", ""), lease.value("peer", 0)),
          std::string(verb) + Seconds(lease, age)};
}

// Columns as wide as their widest cell, two spaces apart; the first row is the head.
std::string Table(const std::vector<Row>& rows, bool colour) {
  std::array<size_t, 5> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += "  " + Padded(row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += (&row == rows.data() ? Coloured(line, Colour::kBold, colour) : line) + "\n";
  }
  return text;
}

}  // namespace

std::string ReportOf(const json& status, Duration age, bool colour) {
  const json& memory = status.at("admission").at("memory");
  const json& cpus = status.at("admission").at("cpus");
  std::string text = fmt::format("  memory  {} of {} given out, {} free\n", ForPeople(BytesIn(memory, "promised")),
                                 ForPeople(BytesIn(memory, "whole")), ForPeople(BytesIn(memory, "available")));
  text += fmt::format("  cpus    {:.3g} of {:.3g} given out\n", cpus.value("promised", 0.0), cpus.value("whole", 0.0));
  if (const json forks = status.value("forks", json::object()); forks.value("taken", 0) > 0) {
    int hits = forks.value("hits", 0), taken = forks.value("taken", 0);
    text += fmt::format("  forks   {} ready; {} of {} leases ({} %) found one ready\n", forks.value("warm", 0), hits,
                        taken, hits * 100 / taken);
  }
  std::vector<Row> rows = {{"VM", "MEMORY", "CPUS", "HELD BY", "FOR"}};
  for (const json& lease : status.at("leases")) rows.push_back(RowOf(lease, "", age));
  for (const json& lease : status.at("admission").at("waiting")) rows.push_back(RowOf(lease, "waits ", age));
  return text + (rows.size() > 1 ? Table(rows, colour) : "  no VM is held\n");
}

}  // namespace mayfly::cli
