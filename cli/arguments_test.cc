#include "cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>

#include "cli/run_spec.h"

namespace mayfly::cli {
namespace {

using internal::TestDirectory;
using internal::WriteWholeFile;
using literals::operator""_GiB;
using literals::operator""_MiB;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

std::string Refusal(const std::function<void()>& function) {
  try {
    function();
  } catch (const BadSpec& error) {
    return error.text().summary;
  }
  return "accepted";
}

TEST(Arguments, AreReadAsPeopleWriteThem) {
  EXPECT_EQ(ReadSize("--memory", "512M"), 512_MiB);
  EXPECT_EQ(ReadSize("--memory", "1GiB"), 1_GiB);
  EXPECT_EQ(ReadCount("--cpus", "16"), 16U);
  EXPECT_EQ(ReadDuration("--timeout", "250ms"), milliseconds(250));
  EXPECT_EQ(ReadDuration("--timeout", "1.5s"), milliseconds(1500));
  EXPECT_EQ(ReadDuration("--timeout", "90"), seconds(90));
  EXPECT_EQ(ReadDuration("--timeout", "2m"), minutes(2));
  EXPECT_EQ(ReadDuration("--timeout", "1h"), hours(1));
  EXPECT_EQ(ReadVariable("COLOUR=blue=sky"), std::pair(std::string("COLOUR"), std::string("blue=sky")));
  EXPECT_EQ(ReadVariable("EMPTY="), std::pair(std::string("EMPTY"), std::string()));
}

TEST(Arguments, ACopyIsSplitBeforeTheGuestsPath) {
  TestDirectory directory;
  WriteWholeFile(directory / "with:colon", "x");
  Copy copy = ReadCopy((directory / "with:colon").string() + ":/opt/");
  EXPECT_EQ(copy.from, directory / "with:colon");
  EXPECT_EQ(copy.to, "/opt/");
}

struct WrongArgument {
  std::string_view name;
  void (*read)();
  std::string_view message;
};
void PrintTo(const WrongArgument& wrong, std::ostream* out) { *out << wrong.name; }

class WrongArguments : public testing::TestWithParam<WrongArgument> {};

TEST_P(WrongArguments, AreRefusedWithFlagValueAndWhatIsAllowed) {
  EXPECT_EQ(Refusal(GetParam().read), GetParam().message);
}

constexpr std::string_view kSizeMessage =
    "--memory: \"lots\" is no size; allowed: a number with K, M, G or T, such as 512M";
constexpr WrongArgument kWrongArguments[] = {
    {"Size", [] { ReadSize("--memory", "lots"); }, kSizeMessage},
    {"Count", [] { ReadCount("--cpus", "2x"); }, "--cpus: \"2x\" is no count; allowed: a whole number, such as 2"},
    {"NegativeCount", [] { ReadCount("--cpus", "-1"); },
     "--cpus: \"-1\" is no count; allowed: a whole number, such as 2"},
    {"CountThatWouldWrap", [] { ReadCount("--cpus", "4294967297"); },
     "--cpus: \"4294967297\" is no count; allowed: a whole number, such as 2"},
    {"NoTime", [] { ReadDuration("--timeout", ""); },
     "--timeout: \"\" is no time; allowed: a number above 0 with ms, s, m or h, such as 90s"},
    {"ZeroTime", [] { ReadDuration("--timeout", "0s"); },
     "--timeout: \"0s\" is no time; allowed: a number above 0 with ms, s, m or h, such as 90s"},
    {"NegativeTime", [] { ReadDuration("--timeout", "-5s"); },
     "--timeout: \"-5s\" is no time; allowed: a number above 0 with ms, s, m or h, such as 90s"},
    {"TimeWithoutNumber", [] { ReadDuration("--timeout", "nan"); },
     "--timeout: \"nan\" is no time; allowed: a number above 0 with ms, s, m or h, such as 90s"},
    {"TimeInDays", [] { ReadDuration("--timeout", "1d"); },
     "--timeout: \"1d\" is no time; allowed: a number above 0 with ms, s, m or h, such as 90s"},
    {"TimeBeyondTheClock", [] { ReadDuration("--timeout", "1000000h"); },
     "--timeout: \"1000000h\" is no time; allowed: a number above 0 with ms, s, m or h, such as 90s"},
    {"Variable", [] { ReadVariable("COLOUR"); },
     "--env: \"COLOUR\" is no variable; allowed: NAME=VALUE, such as LANG=C.UTF-8"},
    {"VariableWithoutName", [] { ReadVariable("=blue"); },
     "--env: \"=blue\" is no variable; allowed: NAME=VALUE, such as LANG=C.UTF-8"},
    {"CopyToNowhere", [] { ReadCopy("build"); },
     "--copy: \"build\" does not say what to copy where; allowed: HOST:GUEST with an absolute GUEST, such as "
     "build:/opt/"},
    {"CopyToARelativePath", [] { ReadCopy("build:opt"); },
     "--copy: \"build:opt\" does not say what to copy where; allowed: HOST:GUEST with an absolute GUEST, such as "
     "build:/opt/"},
    {"CopyOfNothing", [] { ReadCopy(":/opt"); },
     "--copy: \":/opt\" does not say what to copy where; allowed: HOST:GUEST with an absolute GUEST, such as "
     "build:/opt/"},
    {"CopyOfAMissingFile", [] { ReadCopy("/no/such/file:/opt/"); },
     "--copy: cannot read \"/no/such/file\": No such file or directory"},
    {"MissingFile", [] { ReadTextFile("--spec", "/no/such/file"); },
     "--spec: cannot read \"/no/such/file\": No such file or directory"},
    {"DirectoryAsFile", [] { ReadTextFile("--spec", "/usr"); }, "--spec: cannot read \"/usr\": Is a directory"},
    {"FileWithoutEnd", [] { ReadTextFile("--spec", "/dev/zero"); },
     "--spec: cannot read \"/dev/zero\": it has more than 16 MiB"},
};
INSTANTIATE_TEST_SUITE_P(, WrongArguments, testing::ValuesIn(kWrongArguments),
                         [](const auto& tested) { return std::string(tested.param.name); });

// --- SpecOf ---------------------------------------------------------------------------------------------------------

TEST(SpecOf, LetsFlagsChangeWhatTheFileSays) {
  TestDirectory directory;
  WriteWholeFile(directory / "vm.json", R"({"cpus": 3, "memory": "1GiB", "boot": {"command_line": "quiet"}})");
  MachineSpec spec = SpecOf({.file = (directory / "vm.json").string(), .memory = "128M", .append = "loglevel=7"});
  EXPECT_EQ(spec.cpus, 3U);
  EXPECT_EQ(spec.memory, 128_MiB);
  EXPECT_EQ(spec.boot.command_line, "quiet loglevel=7");
  EXPECT_EQ(spec.image, "tiny");
}

TEST(SpecOf, TakesDisksInTheFormatThatTheyHave) {
  TestDirectory directory;
  WriteWholeFile(directory / "raw.img", std::string(4096, '\0'));
  WriteWholeFile(directory / "q.img", "QFI\xfb" + std::string(4096, '\0'));
  MachineSpec spec = SpecOf({.disks = {(directory / "raw.img").string(), (directory / "q.img").string()}});
  ASSERT_EQ(spec.disks.size(), 2U);
  EXPECT_EQ(spec.disks[0].id, "disk0");
  EXPECT_EQ(spec.disks[0].format, DiskFormat::kRaw);
  EXPECT_EQ(spec.disks[1].format, DiskFormat::kQcow2);
}

TEST(SpecOf, SaysInWhichFileAndFieldAFaultIs) {
  TestDirectory directory;
  std::string file = (directory / "vm.json").string();
  WriteWholeFile(file, R"({"memroy": "1GiB"})");
  EXPECT_THAT(Refusal([&] { SpecOf({.file = file}); }),
              AllOf(HasSubstr("vm.json: unknown key \"memroy\""), HasSubstr("did you mean \"memory\"?")));
  WriteWholeFile(file, R"({"cpus": 0})");
  EXPECT_THAT(Refusal([&] { SpecOf({.file = file}); }), HasSubstr("vm.json: cpus: 0 is not allowed"));
  EXPECT_THAT(Refusal([&] { SpecOf({.cpus = "0"}); }), HasSubstr("run: cpus: 0 is not allowed; allowed: 1 to 255"));
  EXPECT_THAT(Refusal([&] { SpecOf({.memory = "3T"}); }),
              AllOf(HasSubstr("memory: \"3TiB\" is more than this host has"), HasSubstr("allowed: ")));
  EXPECT_THAT(Refusal([&] { SpecOf({.disks = {"/usr"}}); }), HasSubstr("\"/usr\" is a directory"));
  EXPECT_THAT(Refusal([&] { SpecOf({.kernel = "/no/kernel"}); }), HasSubstr("\"/no/kernel\" does not exist"));
}

}  // namespace
}  // namespace mayfly::cli
