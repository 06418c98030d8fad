// mayfly doctor: what this host can do, why not, and the command that changes it.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/commands.h"
#include "cli/doctor_checks.h"
#include "cli/output.h"

namespace mayfly::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    "Each line is a fact: ok, warn (something is missing or slower) or fail (no VM can run), with what changes it "
    "below.\n"
    "`matrix` counts the cells of the capability matrix (mayfly matrix show) that can be shown on this host.\n"
    "NO_COLOR turns colour off, CLICOLOR_FORCE=1 keeps it in a pipe.\n\n"
    "Examples:\n"
    "  mayfly doctor\n"
    "  mayfly doctor --json | jq -r '.checks[] | select(.result != \"pass\") | .fix'\n"
    "  mayfly doctor --json | jq '.matrix[] | select(.driver == \"qemu\").lacks'\n\n"
    "Exit codes: 0 when a VM can run, 1 when none can, 2 for a wrong command line.";

constexpr size_t kNameWidth = 9;
constexpr size_t kDetailWidth = 80;

struct Verdict {
  const char* word;  // in JSON
  const char* shown;
  Colour colour;
};
constexpr Verdict kVerdicts[] = {
    // in the order of HostCheck::Result
    {"pass", "ok", Colour::kGreen},
    {"warn", "warn", Colour::kYellow},
    {"fail", "fail", Colour::kRed},
};

const Verdict& VerdictOf(const HostCheck& check) { return kVerdicts[static_cast<size_t>(check.result)]; }

void PrintCheck(const HostCheck& check, bool colour) {
  const Verdict& verdict = VerdictOf(check);
  std::string name = check.name;
  std::string shown = Coloured(verdict.shown, verdict.colour, colour);
  for (const std::string& line : Wrapped(check.detail, kDetailWidth)) {
    std::string row = Padded(name, kNameWidth) + " " + Padded(line, kDetailWidth) + "  " + shown;
    Print(row.substr(0, row.find_last_not_of(' ') + 1) + "\n");
    name.clear();
    shown.clear();
  }
  std::istringstream fixes(check.fix);
  for (std::string fix; std::getline(fixes, fix);) {
    for (const std::string& line : Wrapped(fix, kDetailWidth)) Print(std::string(kNameWidth + 1, ' ') + line + "\n");
  }
}

Json JsonOf(const DriverCells& cells) {
  Json lacks = Json::array();
  for (const auto& [lack, count] : cells.summary.lacks) {
    lacks.push_back({{"need", lack.need}, {"cells", count}, {"reason", lack.reason}, {"fix", lack.fix}});
  }
  return {{"driver", cells.driver},
          {"cells", cells.summary.cells},
          {"verifiable", cells.summary.verifiable},
          {"lacks", std::move(lacks)}};
}

int Report(const std::string& driver, bool json) {
  Diagnosis diagnosis = Diagnose(driver);
  int code = diagnosis.usable ? 0 : kFailed;
  if (json) {
    Json checks = Json::array();
    for (const HostCheck& check : diagnosis.checks) {
      checks.push_back(
          {{"name", check.name}, {"result", VerdictOf(check).word}, {"detail", check.detail}, {"fix", check.fix}});
    }
    Json cells = Json::array();
    for (const DriverCells& driver_cells : diagnosis.cells) cells.push_back(JsonOf(driver_cells));
    Json all = {{"usable", diagnosis.usable},
                {"driver", diagnosis.driver},
                {"checks", std::move(checks)},
                {"matrix", std::move(cells)}};
    Print(all.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return code;
  }
  bool colour = WantsColour(STDOUT_FILENO);
  for (const HostCheck& check : diagnosis.checks) PrintCheck(check, colour);
  Print(diagnosis.usable ? fmt::format("\nVMs can run here, with {}. Try: mayfly run -- uname -a\n", diagnosis.driver)
                         : "\nNo VM can run here before what fails above is put right.\n");
  return code;
}

}  // namespace

void AddDoctor(CLI::App& app, Action& chosen) {
  struct Flags {
    std::string driver{};
    bool json = false;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App& doctor = *app.add_subcommand("doctor", "What this host can do, why not, and what changes it");
  doctor.footer(kFooter);
  doctor.add_option("--driver", flags->driver, "Look at this backend only")->type_name("NAME");
  doctor.add_flag("--json", flags->json, "As JSON");
  doctor.callback([flags, &chosen] { chosen = [flags] { return Report(flags->driver, flags->json); }; });
}

}  // namespace mayfly::cli
