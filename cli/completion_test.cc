// The completion scripts, read by the shells that they are for, and asked what they would complete.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::IsSupersetOf;
using testing::Not;
using testing::UnorderedElementsAre;

class Completion : public testing::Test {
 protected:
  // The script for a shell, as a file.
  std::filesystem::path Script(const std::string& shell) {
    Outcome outcome = RunMayfly({"completion", shell});
    EXPECT_EQ(outcome.status.code, 0);
    EXPECT_EQ(outcome.err, "");
    internal::WriteWholeFile(directory_ / shell, outcome.out);
    return directory_ / shell;
  }

  // What a shell prints, with the command that is tested in its PATH.
  static std::string Shell(const std::vector<std::string>& words) {
    internal::CommandOutput output = internal::RunCommand(words, std::chrono::seconds(30));
    EXPECT_TRUE(output.status.ok()) << output.status.ToString() << "\n" << output.out;
    return output.out;
  }

  // What bash would offer for the last of `words`.
  std::vector<std::string> Offered(const std::vector<std::string>& words) {
    std::string line;
    for (const std::string& word : words) line += " '" + word + "'";
    std::string out =
        Shell({"bash", "-c",
               "PATH=${MAYFLY_BINARY%/*}:$PATH; source \"$0\"; COMP_WORDS=(mayfly" + line +
                   "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _mayfly; printf '%s\\n' \"${COMPREPLY[@]}\"",
               Script("bash")});
    std::vector<std::string> offered;
    std::istringstream lines(out);
    for (std::string word; std::getline(lines, word);) {
      if (!word.empty()) offered.push_back(word);
    }
    return offered;
  }

  internal::TestDirectory directory_;
};

TEST_F(Completion, IsAScriptForEachShell) {
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    if (!internal::FindProgram(shell)) GTEST_SKIP() << "no " << shell << " here: ci/setup check installs it";
    EXPECT_EQ(Shell({shell, "-n", Script(shell)}), "") << shell;
  }
}

TEST_F(Completion, OffersCommandsThenTheirOptions) {
  EXPECT_THAT(Offered({""}), AllOf(IsSupersetOf({"run", "image", "doctor", "pool", "gc", "completion", "--version"}),
                                   Not(Contains("build"))));
  EXPECT_THAT(Offered({"im"}), ElementsAre("image"));
  EXPECT_THAT(Offered({"image", ""}), IsSupersetOf({"list", "show", "build", "path", "--help"}));
  EXPECT_THAT(Offered({"run", "--me"}), ElementsAre("--memory"));
  EXPECT_THAT(Offered({"pool", ""}), UnorderedElementsAre("status", "stop", "--help"));
  EXPECT_THAT(Offered({"pool", "status", "--"}), UnorderedElementsAre("--help", "--json", "--watch"));
}

TEST_F(Completion, OffersImagesWhereOneIsMeant) {
  EXPECT_THAT(Offered({"image", "show", "t"}), UnorderedElementsAre("tiny", "tiny-disk", "tiny-generic"));
  EXPECT_THAT(Offered({"run", "--image", "d"}), ElementsAre("debian"));
}

TEST_F(Completion, OffersFilesWhereOneIsMeantAndProgramsAfterTheDashes) {
  EXPECT_THAT(Offered({"run", "--kernel", "/etc/pass"}), Contains("/etc/passwd"));
  EXPECT_THAT(Offered({"resume", "/et"}), ElementsAre("/etc"));
  EXPECT_THAT(Offered({"run", "--", "tru"}), IsSupersetOf({"true", "truncate"}));
}

TEST_F(Completion, OffersTheSameInFish) {
  if (!internal::FindProgram("fish")) GTEST_SKIP() << "no fish here: ci/setup check installs it";
  std::string script = Script("fish");
  std::string out =
      Shell({"fish", "-c", "source " + script + "; complete -C 'mayfly im'; complete -C 'mayfly run --me'"});
  EXPECT_EQ(out, "image\tGuest images: list, show, build\n--memory\tMemory, such as 512M (256M)\n");
}

}  // namespace
}  // namespace mayfly::cli
