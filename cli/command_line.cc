#include "cli/command_line.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/nearest.h>
#include <mayfly/internal/spec_fault.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string_view>

#include "cli/commands.h"
#include "cli/output.h"

namespace mayfly::cli {
namespace {

using internal::Quoted;

// Subcommands that run a command in a guest; their exit codes are that command's.
bool RunsInGuest(std::string_view subcommand) {
  return subcommand == "run" || subcommand == "host" || subcommand == "resume";
}

// CLI11's own formatter, with the usage lines that fit us.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    column_width(26);
    label("REQUIRED", "");
    label("SUBCOMMAND", "COMMAND");
    label("SUBCOMMANDS", "COMMANDS");
    label("Positionals", "Arguments");
  }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    if (app->get_name() == "resume") return "Usage: " + name + " [OPTIONS] DIR [-- COMMAND [ARGUMENTS…]]\n";
    if (RunsInGuest(app->get_name())) return "Usage: " + name + " [OPTIONS] -- COMMAND [ARGUMENTS…]\n";
    return CLI::Formatter::make_usage(app, std::move(name));
  }
  std::string make_subcommands(const CLI::App* app, CLI::AppFormatMode mode) const override {
    return CLI::detail::find_and_replace(CLI::Formatter::make_subcommands(app, mode), "\nSubcommands:", "\nCommands:");
  }
};

struct Split {
  std::vector<std::string> words;                     // up to "--"
  std::optional<std::vector<std::string>> command{};  // what follows it
};

Split SplitAtDashes(const std::vector<std::string>& arguments) {
  auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  Split split{.words = {arguments.begin(), dashes}};
  if (dashes != arguments.end()) split.command.emplace(dashes + 1, arguments.end());
  return split;
}

// The subcommand that was asked for last, else the program itself.
CLI::App* Innermost(CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return app;
}

std::string FullName(const CLI::App* app) {
  return app->get_parent() == nullptr ? app->get_name() : FullName(app->get_parent()) + " " + app->get_name();
}

// What begins a message after "mayfly: "; "image build: ".
std::string Prefix(const CLI::App* app) {
  return app->get_parent() == nullptr ? "" : FullName(app).substr(sizeof "mayfly") + ": ";
}

std::string UnknownWord(CLI::App* app, const std::string& word) {
  std::vector<std::string> known;
  bool flag = word.starts_with("-");
  std::string plain = word.substr(0, word.find('='));
  if (flag) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
  } else {
    for (const CLI::App* sub : app->get_subcommands({})) known.push_back(sub->get_name());
  }
  std::vector<std::string_view> candidates(known.begin(), known.end());
  if (!flag && candidates.empty()) return fmt::format("{}{} is one word too many", Prefix(app), Quoted(word));
  return fmt::format("{}{} is no {}{}", Prefix(app), Quoted(plain), flag ? "option" : "command",
                     internal::DidYouMean(plain, candidates));
}

ErrorText TextOf(CLI::App& app, const CLI::ParseError& error) {
  CLI::App* last = Innermost(&app);
  std::vector<std::string> extra = last->remaining();
  std::string help = fmt::format("see: {} --help", FullName(last));
  if (extra.empty()) {
    if (!last->get_subcommands({}).empty()) {
      return {.summary = Prefix(last) + "a command is missing", .next_step = help};
    }
    return {.summary = Prefix(last) + error.what(), .next_step = help};
  }
  if (RunsInGuest(last->get_name()) && !extra[0].starts_with("-")) {
    return {.summary = Prefix(last) + "the command for the guest comes after \"--\"",
            .next_step = fmt::format("mayfly {} -- {}", last->get_name() == "resume" ? "resume DIR" : last->get_name(),
                                     extra[0])};
  }
  return {.summary = UnknownWord(last, extra[0]), .next_step = help};
}

void Tell(const Error& error) { Complain(error.what()); }

}  // namespace

int Mayfly(const std::vector<std::string>& arguments) {
  Split split = SplitAtDashes(arguments);
  CLI::App app("Ephemeral virtual machines: a real, fresh Linux guest for a command or a test.", "mayfly");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", "mayfly " MAYFLY_VERSION);
  app.require_subcommand(1);
  app.footer(
      "First steps:\n"
      "  mayfly doctor                     what this host can do, and how to get the rest\n"
      "  mayfly run -- uname -a            a fresh VM for one command\n"
      "  mayfly run -it -- sh              a shell in one\n"
      "  mayfly host -- CMD                a command of yours where /dev/kvm works\n\n"
      "Each command has its own --help with examples and exit codes.");
  Action chosen;
  AddRun(app, split.command, chosen);
  AddHost(app, split.command, chosen);
  AddResume(app, split.command, chosen);
  AddImage(app, chosen);
  AddDoctor(app, chosen);
  AddPool(app, chosen);
  AddMatrix(app, chosen);
  AddConformance(app, chosen);
  AddGc(app, chosen);
  AddCompletion(app, chosen);

  bool run = !split.words.empty() && RunsInGuest(split.words.front());
  try {
    std::vector<std::string> reversed(split.words.rbegin(), split.words.rend());
    app.parse(reversed);
    if (!run && split.command) {
      throw BadSpec({.summary = Prefix(Innermost(&app)) + "nothing may follow \"--\" here"});
    }
  } catch (const CLI::Success& asked) {  // --help, --version
    app.exit(asked);
    return FinishOutput();
  } catch (const CLI::ParseError& error) {
    Tell(BadSpec(TextOf(app, error)));
    return run ? kRunFailed : kUsage;
  } catch (const Error& error) {
    Tell(error);
    return run ? kRunFailed : kUsage;
  }

  int code = run ? kRunFailed : kFailed;
  try {
    code = chosen();
  } catch (const Error& error) {
    Tell(error);
  } catch (const std::exception& error) {
    Tell(Error({.summary = Prefix(Innermost(&app)) + error.what()}));
  }
  int output = FinishOutput();
  return code != 0 ? code : output;
}

}  // namespace mayfly::cli
