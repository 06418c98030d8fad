// The subcommands of `mayfly`, a source file each.
//
// Each function here declares a subcommand to the parser. When the command line asks for that one, it stores what is to
// be done in `chosen`; that is called once everything has been read, and returns the exit code.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11 calls itself that
class App;
}

namespace mayfly::cli {

using Action = std::function<int()>;

// Exit codes besides 0; scripts depend on them.
inline constexpr int kFailed = 1;         // what was asked could not be done, or `doctor` found that no VM can run
inline constexpr int kUsage = 2;          // the command line is wrong
inline constexpr int kRunTimedOut = 124;  // `run`, `host`, `resume`: the command was ended by --timeout
inline constexpr int kRunFailed = 125;    // `run`, `host`, `resume`: mayfly itself failed, or the command line is wrong
inline constexpr int kSignalled = 128;    // plus a signal's number

// `words` are those after "--"; nothing when there was none.
void AddRun(CLI::App& app, const std::optional<std::vector<std::string>>& words, Action& chosen);
void AddHost(CLI::App& app, const std::optional<std::vector<std::string>>& words, Action& chosen);
void AddResume(CLI::App& app, const std::optional<std::vector<std::string>>& words, Action& chosen);
void AddImage(CLI::App& app, Action& chosen);
void AddDoctor(CLI::App& app, Action& chosen);
void AddGc(CLI::App& app, Action& chosen);
void AddPool(CLI::App& app, Action& chosen);
void AddMatrix(CLI::App& app, Action& chosen);
void AddConformance(CLI::App& app, Action& chosen);
void AddCompletion(CLI::App& app, Action& chosen);

}  // namespace mayfly::cli
