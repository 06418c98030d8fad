// mayfly gc: removes what processes that were killed have left: sandboxes, files of daemons, half-made templates.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/template_store.h>
#include <mayfly/sandbox.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/output.h"

namespace mayfly::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    "Processes that end clean up after themselves, and killed ones are cleaned up after by their janitor; this is for\n"
    "what is left when that one was killed too: sandboxes, files of daemons that are gone, half-made templates. What\n"
    "belongs to a living process is never touched.\n\n"
    "Examples:\n"
    "  mayfly gc --dry-run\n"
    "  mayfly gc --json\n\n"
    "Exit codes: 0; 1 when it could not be done; 2 for a wrong command line.";

// Templates lie in the cache directory. One that cannot be written has none.
std::vector<std::filesystem::path> GarbageOfTemplates(bool dry_run) {
  try {
    internal::TemplateStore store;
    return dry_run ? store.FindGarbage() : store.CollectGarbage();
  } catch (const Error&) {
    return {};
  }
}

int Collect(bool dry_run, bool json) {
  std::vector<std::filesystem::path> found = dry_run ? FindGarbage() : CollectGarbage();
  for (auto& path : GarbageOfTemplates(dry_run)) found.push_back(std::move(path));
  if (json) {
    Json paths = Json::array();
    for (const auto& path : found) paths.push_back(path.string());
    Print(Json{{"removed", !dry_run}, {"paths", std::move(paths)}}.dump(2) + "\n");
    return 0;
  }
  for (const auto& path : found) Print(fmt::format("{} {}\n", dry_run ? "would remove" : "removed", path.string()));
  if (found.empty()) Print("nothing to remove\n");
  return 0;
}

}  // namespace

void AddGc(CLI::App& app, Action& chosen) {
  struct Flags {
    bool dry_run = false;
    bool json = false;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App& gc = *app.add_subcommand("gc", "Remove what killed processes have left");
  gc.footer(kFooter);
  gc.add_flag("--dry-run", flags->dry_run, "Only tell what would be removed");
  gc.add_flag("--json", flags->json, "As JSON");
  gc.callback([flags, &chosen] { chosen = [flags] { return Collect(flags->dry_run, flags->json); }; });
}

}  // namespace mayfly::cli
