// Words on the command line, what they lead to and how that is told. No VM is started here.
#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

struct WrongLine {
  std::string_view name;
  std::vector<std::string> words;
  int code;
  std::string_view told;
};
void PrintTo(const WrongLine& wrong, std::ostream* out) { *out << wrong.name; }

class WrongCommandLine : public testing::TestWithParam<WrongLine> {};

TEST_P(WrongCommandLine, IsToldOnStandardErrorWithAnExitCodeOfItsOwn) {
  StartedMayfly mayfly(GetParam().words);
  Outcome outcome = mayfly.Wait();
  EXPECT_EQ(outcome.status.code, GetParam().code);
  EXPECT_EQ(outcome.status.signal, 0);
  EXPECT_THAT(outcome.err, AllOf(StartsWith("mayfly: "), HasSubstr(GetParam().told)));
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(mayfly.Leftovers(), "");
}

INSTANTIATE_TEST_SUITE_P(
    , WrongCommandLine,
    testing::Values(
        WrongLine{"NoCommand", {}, kUsage, "mayfly: a command is missing\n  see: mayfly --help\n"},
        WrongLine{"UnknownCommand", {"rum"}, kUsage, "\"rum\" is no command; did you mean \"run\"?"},
        WrongLine{"UnknownFlag", {"--versoin"}, kUsage, "\"--versoin\" is no option; did you mean \"--version\"?"},
        WrongLine{"UnknownFlagOfACommand",
                  {"run", "--memry", "1G", "--", "true"},
                  kRunFailed,
                  "run: \"--memry\" is no option; did you mean \"--memory\"?\n  see: mayfly run --help\n"},
        WrongLine{"UnknownFlagWithValue", {"run", "--cpu=2", "--", "true"}, kRunFailed, "did you mean \"--cpus\"?"},
        WrongLine{
            "UnknownSubcommand", {"image", "lst"}, kUsage, "image: \"lst\" is no command; did you mean \"list\"?"},
        WrongLine{"NoSubcommand", {"image"}, kUsage, "image: a command is missing\n  see: mayfly image --help\n"},
        WrongLine{"WordTooMany", {"doctor", "kvm"}, kUsage, "doctor: \"kvm\" is one word too many"},
        WrongLine{"MissingName", {"image", "show"}, kUsage, "image show: NAME is required"},
        WrongLine{"FlagWithoutValue", {"run", "--cpus"}, kRunFailed, "run: --cpus: "},
        WrongLine{
            "RunWithoutCommand", {"run"}, kRunFailed, "run: the command for the guest is missing\n  mayfly run -- "},
        WrongLine{"RunWithNothingAfterDashes", {"run", "--"}, kRunFailed, "run: the command for the guest is missing"},
        WrongLine{"RunWithoutDashes",
                  {"run", "uname", "-a"},
                  kRunFailed,
                  "run: the command for the guest comes after \"--\"\n  mayfly run -- uname"},
        WrongLine{"ResumeWithoutDirectory", {"resume"}, kRunFailed, "resume: DIR is required"},
        WrongLine{"ResumeWithoutDashes", {"resume", "/tmp", "sh"}, kRunFailed, "mayfly resume DIR -- sh"},
        WrongLine{"ResumeWithNothingAfterDashes", {"resume", "/tmp", "--"}, kRunFailed, "leave \"--\" out for a shell"},
        WrongLine{
            "ResumeOfNothing",
            {"resume", "/no/folder"},
            kRunFailed,
            "resume: there is no directory /no/folder\n  give the folder that the output of the failed test names"},
        WrongLine{"DashesWhereNoneBelong", {"image", "list", "--", "x"}, kUsage, "nothing may follow \"--\" here"},
        WrongLine{"WrongSize", {"run", "--memory", "lots", "--", "true"}, kRunFailed, "--memory: \"lots\" is no size"},
        WrongLine{"TooMuchMemory",
                  {"run", "--memory", "3T", "--", "true"},
                  kRunFailed,
                  "memory: \"3TiB\" is more than this host has"},
        WrongLine{
            "NoCpus", {"run", "--cpus", "0", "--", "true"}, kRunFailed, "cpus: 0 is not allowed; allowed: 1 to 255"},
        WrongLine{"MissingSpec",
                  {"run", "--spec", "/no/vm.json", "--", "true"},
                  kRunFailed,
                  "--spec: cannot read \"/no/vm.json\": No such file or directory"},
        WrongLine{"MissingCopy",
                  {"run", "--copy", "/no/kv:/usr/bin/", "--", "kv"},
                  kRunFailed,
                  "--copy: cannot read \"/no/kv\": No such file or directory"},
        WrongLine{"MissingKernel",
                  {"run", "--kernel", "/no/kernel", "--", "true"},
                  kRunFailed,
                  "boot.kernel: \"/no/kernel\" does not exist"},
        WrongLine{"DirectoryAsDisk", {"run", "--disk", "/usr", "--", "true"}, kRunFailed, "\"/usr\" is a directory"},
        WrongLine{
            "WrongTimeout", {"run", "--timeout", "soon", "--", "true"}, kRunFailed, "--timeout: \"soon\" is no time"},
        WrongLine{"TerminalWithoutOne", {"run", "-it", "--", "sh"}, kRunFailed, "needs a terminal as standard input"},
        WrongLine{"UnknownImageToRun",
                  {"run", "--image", "tinny", "--", "true"},
                  kRunFailed,
                  "there is no image \"tinny\"; did you mean \"tiny\"?"},
        WrongLine{"UnknownDriver",
                  {"run", "--driver", "qemy", "--", "true"},
                  kRunFailed,
                  "driver: \"qemy\" is no backend of this build; allowed: qemu"},
        WrongLine{"UnknownImageToShow",
                  {"image", "show", "debain"},
                  kFailed,
                  "there is no image \"debain\"; did you mean \"debian\"?\n  see: mayfly image list"},
        WrongLine{"UnknownImageToBuild", {"image", "build", "tny"}, kFailed, "did you mean \"tiny\"?"},
        WrongLine{"NothingToBuild", {"image", "build"}, kFailed, "image build: which image? Give names, or --all"},
        WrongLine{"NamesAndAll", {"image", "build", "--all", "tiny"}, kFailed, "Give names, or --all and no name"},
        WrongLine{"NoPoolSubcommand", {"pool"}, kUsage, "pool: a command is missing\n  see: mayfly pool --help\n"},
        WrongLine{"UnknownPoolSubcommand", {"pool", "stauts"}, kUsage, "did you mean \"status\"?"},
        WrongLine{"WatchingTheEnd", {"pool", "stop", "--watch"}, kUsage, "pool stop: \"--watch\" is no option"},
        WrongLine{"StopOfNone",
                  {"pool", "stop", "pool-0123456789ab"},
                  kFailed,
                  "pool stop: there is no daemon \"pool-0123456789ab\"\n  see: mayfly pool status --json"},
        WrongLine{"UnknownShell", {"completion", "bsh"}, kUsage, "did you mean \"bash\"?"},
        WrongLine{"UnknownDriverToDoctor",
                  {"doctor", "--driver", "qemy"},
                  kFailed,
                  "driver: \"qemy\" is no backend of this build; allowed: qemu"}),
    [](const auto& tested) { return std::string(tested.param.name); });

// --- Help -----------------------------------------------------------------------------------------------------------

const std::vector<std::vector<std::string>> kCommands = {
    {"run"},         {"image"},  {"image", "list"},  {"image", "show"},      {"image", "build"}, {"image", "path"},
    {"doctor"},      {"matrix"}, {"matrix", "show"}, {"matrix", "check"},    {"matrix", "docs"}, {"matrix", "diff"},
    {"resume"},      {"gc"},     {"completion"},     {"completion", "bash"}, {"pool"},           {"pool", "status"},
    {"pool", "stop"}};

class Help : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Help, HasExamplesAndExitCodesOnStandardOutput) {
  std::vector<std::string> words = GetParam();
  words.emplace_back("--help");
  Outcome outcome = RunMayfly(words);
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nUsage: mayfly " + GetParam()[0]), HasSubstr("\nExamples:\n  "),
                                 HasSubstr("\nExit codes"), Not(HasSubstr("\n\n\n"))));
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 120U) << line;
}

INSTANTIATE_TEST_SUITE_P(, Help, testing::ValuesIn(kCommands), [](const auto& tested) {
  std::string name;
  for (const std::string& word : tested.param) name += word;
  return name;
});

TEST(MayflyHelp, ListsEveryCommandAndAsksForFirstSteps) {
  Outcome outcome = RunMayfly({"--help"});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("First steps:\n  mayfly doctor"), HasSubstr("\nCommands:\n"), Not(HasSubstr("\n\n\n"))));
  for (const auto& words : kCommands) EXPECT_THAT(outcome.out, HasSubstr("\n  " + words[0] + " "));
}

TEST(MayflyHelp, VersionIsOneLine) {
  Outcome outcome = RunMayfly({"--version"});
  EXPECT_EQ(outcome.status.code, 0);
  EXPECT_THAT(outcome.out, MatchesRegex("mayfly [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

// --- Output ---------------------------------------------------------------------------------------------------------

TEST(Output, ThatCannotBeWrittenIsAnError) {
  Outcome outcome = RunMayfly({"completion", "bash"}, {.out = "/dev/full"});
  EXPECT_EQ(outcome.status.code, kFailed);
  EXPECT_EQ(outcome.err, "mayfly: cannot write standard output: No space left on device\n");
}

TEST(Output, ThatNobodyReadsEndsItAsSigpipeWouldAndSilently) {
  internal::CommandOutput outcome =
      internal::RunCommand({"bash", "-c", "exec 3> >(:); wait $!; \"$MAYFLY_BINARY\" completion bash >&3; echo $?"},
                           std::chrono::seconds(30));
  EXPECT_EQ(outcome.out, std::to_string(kSignalled + SIGPIPE) + "\n");
}

TEST(Output, WorksWithoutStandardStreams) {
  internal::CommandOutput outcome = internal::RunCommand(
      {"bash", "-c", "\"$MAYFLY_BINARY\" image list <&- >&- 2>&-; echo $?"}, std::chrono::seconds(30));
  EXPECT_EQ(outcome.out, "1\n");
}

}  // namespace
}  // namespace mayfly::cli
