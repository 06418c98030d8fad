// mayfly completion: scripts that make a shell complete mayfly's commands and options, made from the parser itself.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/matrix.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/output.h"

namespace mayfly::cli {
namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  mayfly completion bash > ~/.local/share/bash-completion/completions/mayfly\n"
    "  mayfly completion zsh > \"${fpath[1]}/_mayfly\"\n"
    "  mayfly completion fish > ~/.config/fish/completions/mayfly.fish\n\n"
    "Exit codes: 0; 2 for a wrong command line.";

// What can come after some words of a command line.
struct Place {
  std::string words;  // "image build"; empty: after `mayfly` itself
  std::vector<const CLI::App*> commands{};
  std::vector<const CLI::Option*> options{};
  std::string words_from{};  // a command that prints what may come as a word of its own; empty: none
  bool directory = false;    // a word of its own may be a directory
};

constexpr const char* kListImages = "mayfly image list --quiet 2>/dev/null";
constexpr const char* kListCapabilities = "mayfly matrix show --quiet 2>/dev/null";

std::vector<Place> PlacesOf(const CLI::App* app, const std::string& words = {}) {
  Place place{.words = words};
  for (const CLI::App* sub : app->get_subcommands({})) place.commands.push_back(sub);
  for (const CLI::Option* option : app->get_options()) {
    if (!option->get_lnames().empty()) place.options.push_back(option);
  }
  if (words.starts_with("image ") && app->get_option_no_throw("NAME") != nullptr) place.words_from = kListImages;
  if (words == "matrix show") place.words_from = kListCapabilities;
  place.directory = app->get_option_no_throw("DIR") != nullptr;
  std::vector<Place> places = {place};
  for (const CLI::App* sub : place.commands) {
    for (Place& below : PlacesOf(sub, words + (words.empty() ? "" : " ") + sub->get_name())) {
      places.push_back(std::move(below));
    }
  }
  return places;
}

// The words that an option of `matrix` takes, by the name of its value; none when that is another, or when there is no
// matrix to read them from.
std::vector<std::string> WordsOf(const std::string& type) {
  std::vector<std::string> words;
  auto add = [&](const auto& rows) {
    for (const auto& row : rows) words.push_back(row.id);
  };
  try {
    if (type == "DRIVER") add(internal::LoadMatrix().drivers);
    if (type == "GROUP") add(internal::LoadMatrix().groups);
  } catch (const Error&) {
    return {};
  }
  if (type == "STATUS") {
    for (const internal::CellStatusRow& row : internal::kCellStatuses) words.emplace_back(row.name);
  }
  return words;
}

// How the value of an option is completed.
enum class Value { kNone, kFile, kDirectory, kImage, kWord, kOther };
Value ValueOf(const CLI::Option& option) {
  if (option.get_type_size() == 0 || option.get_lnames()[0] == "help" || option.get_lnames()[0] == "version") {
    return Value::kNone;
  }
  if (option.get_lnames()[0] == "image") return Value::kImage;
  std::string type = option.get_type_name();
  if (type == "FILE" || type == "HOST:GUEST") return Value::kFile;
  if (type == "DIRECTORY") return Value::kDirectory;
  return WordsOf(type).empty() ? Value::kOther : Value::kWord;
}

std::string WordsAt(const Place& place) {
  std::vector<std::string> words;
  for (const CLI::App* command : place.commands) words.push_back(command->get_name());
  for (const CLI::Option* option : place.options) words.push_back("--" + option->get_lnames()[0]);
  return fmt::format("{}", fmt::join(words, " "));
}

// For `case "$place:$previous"`: a pattern for each option with a value.
std::string BashValues(const std::vector<Place>& places) {
  std::string cases;
  for (const Place& place : places) {
    for (const CLI::Option* option : place.options) {
      Value value = ValueOf(*option);
      if (value == Value::kNone) continue;
      std::string words = fmt::format("{}", fmt::join(WordsOf(option->get_type_name()), " "));
      const std::string replies[] = {"",
                                     "compgen -f -- \"$word\"",
                                     "compgen -d -- \"$word\"",
                                     fmt::format("compgen -W \"$({})\" -- \"$word\"", kListImages),
                                     fmt::format("compgen -W \"{}\" -- \"$word\"", words),
                                     ":"};
      cases += fmt::format("    \"{}:--{}\") mapfile -t COMPREPLY < <({}); return ;;\n", place.words,
                           option->get_lnames()[0], replies[static_cast<size_t>(value)]);
    }
  }
  return cases;
}

std::string Bash(const std::vector<Place>& places) {
  std::string known;
  std::string words;
  for (const Place& place : places) {
    std::string more = place.words_from.empty() ? "" : fmt::format(" $({})", place.words_from);
    if (!place.words.empty()) known += fmt::format("      \"{}\") place=$next ;;\n", place.words);
    words += fmt::format("    \"{}\") words=\"{}{}\"{} ;;\n", place.words, WordsAt(place), more,
                         place.directory ? " besides=-d" : "");
  }
  return fmt::format(R"(# bash completion of mayfly, made by `mayfly completion bash`
_mayfly() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} place="" next words="" besides="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${{COMP_WORDS[i]}} == -- ]]; then
      mapfile -t COMPREPLY < <(compgen -c -- "$word")
      return
    fi
    next="${{place:+$place }}${{COMP_WORDS[i]}}"
    case "$next" in
{}    esac
  done
  case "$place:$previous" in
{}  esac
  case "$place" in
{}  esac
  mapfile -t COMPREPLY < <(compgen $besides -W "$words" -- "$word")
}}
complete -F _mayfly mayfly
)",
                     known, BashValues(places), words);
}

// zsh runs bash completions.
std::string Zsh(const std::vector<Place>& places) {
  return "#compdef mayfly\nautoload -U +X bashcompinit && bashcompinit\nautoload -U +X compinit\n" + Bash(places);
}

std::string FishQuoted(std::string_view text) {
  std::string quoted = "'";
  for (char c : text) quoted += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return quoted + "'";
}

std::string Fish(const std::vector<Place>& places) {
  std::string script = "# fish completion of mayfly, made by `mayfly completion fish`\ncomplete -c mayfly -f\n";
  for (const Place& place : places) {
    std::string seen = "__fish_use_subcommand";
    if (!place.words.empty()) {
      seen = "__fish_seen_subcommand_from " + place.words.substr(place.words.rfind(' ') + 1);
      if (size_t space = place.words.find(' '); space != std::string::npos) {
        seen = fmt::format("__fish_seen_subcommand_from {}; and {}", place.words.substr(0, space), seen);
      }
    }
    for (const CLI::App* command : place.commands) {
      script += fmt::format("complete -c mayfly -n '{}' -a {} -d {}\n", seen, command->get_name(),
                            FishQuoted(command->get_description()));
    }
    if (!place.words_from.empty())
      script += fmt::format("complete -c mayfly -n '{}' -a '({})'\n", seen, place.words_from);
    if (place.directory) script += fmt::format("complete -c mayfly -n '{}' -a '(__fish_complete_directories)'\n", seen);
    for (const CLI::Option* option : place.options) {
      std::string words = fmt::format("{}", fmt::join(WordsOf(option->get_type_name()), " "));
      const std::string values[] = {"",
                                    " -r -F",
                                    " -x -a '(__fish_complete_directories)'",
                                    fmt::format(" -x -a '({})'", kListImages),
                                    fmt::format(" -x -a '{}'", words),
                                    " -x"};
      std::string letter = option->get_snames().empty() ? "" : " -s " + option->get_snames()[0];
      script += fmt::format("complete -c mayfly -n '{}' -l {}{}{} -d {}\n", seen, option->get_lnames()[0], letter,
                            values[static_cast<size_t>(ValueOf(*option))], FishQuoted(option->get_description()));
    }
  }
  return script;
}

struct Shell {
  const char* name;
  std::string (*script)(const std::vector<Place>&);
};
constexpr Shell kShells[] = {{"bash", Bash}, {"zsh", Zsh}, {"fish", Fish}};

}  // namespace

void AddCompletion(CLI::App& app, Action& chosen) {
  CLI::App& completion = *app.add_subcommand("completion", "Print a script that completes mayfly's words in a shell");
  completion.require_subcommand(1);
  completion.footer(kFooter);
  for (const Shell& shell : kShells) {
    CLI::App& sub = *completion.add_subcommand(shell.name, std::string("For ") + shell.name);
    sub.callback([&app, &shell, &chosen] {
      chosen = [&app, &shell] {
        Print(shell.script(PlacesOf(&app)));
        return 0;
      };
    });
  }
}

}  // namespace mayfly::cli
