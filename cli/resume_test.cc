// mayfly resume where no VM comes back: what is in the folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/snapshot.h>

#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ResumeFolder : public testing::Test {
 protected:
  // What a frozen VM of QEMU `version` leaves, without anything that a VMM could use.
  void Freeze(const std::string& version) {
    std::filesystem::create_directories(frozen());
    for (const char* file : {"state", "kernel"}) internal::WriteWholeFile(frozen() / file, std::string(1000, 'x'));
    WriteSnapshot({.driver = "qemu",
                   .vmm = "QEMU " + version,
                   .machine = "microvm",
                   .accelerator = "tcg",
                   .spec = {.memory = Bytes(128 << 20), .name = "kv"},
                   .kernel = "kernel",
                   .directory = frozen()});
    internal::WriteManifest(frozen(), nlohmann::json::object());
  }

  // Resumes with a QEMU of version 7.2.0 that cannot do anything.
  std::string ErrorOfResume() {
    std::string program = directory_ / "qemu";
    internal::WriteWholeFile(program, "#!/bin/sh\n[ \"$1\" != --version ] || echo 'QEMU emulator version 7.2.0'\n",
                             0755);
    Outcome outcome = RunMayfly({"resume", directory_.path().string(), "--", "true"},
                                {.environment = {{"MAYFLY_QEMU", program}, {"MAYFLY_ACCEL", "tcg"}}});
    EXPECT_EQ(outcome.status.code, kRunFailed);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  }

  std::filesystem::path frozen() const { return directory_ / "frozen"; }
  internal::TestDirectory directory_;
};

TEST_F(ResumeFolder, OfATestWhoseVmWasNotFrozenIsTold) {
  EXPECT_THAT(ErrorOfResume(), HasSubstr(directory_.path().string() + " holds no frozen VM\n  give a directory that"));
}

TEST_F(ResumeFolder, OfAnotherVersionIsToldWithBothAndTheWayOut) {
  Freeze("9.1.0");
  EXPECT_THAT(ErrorOfResume(), AllOf(HasSubstr("was saved by VMM QEMU 9.1.0; here it is QEMU 7.2.0"),
                                     HasSubstr("set MAYFLY_QEMU to a QEMU 9.1.0")));
}

TEST_F(ResumeFolder, WithATruncatedFileNamesTheFile) {
  Freeze("7.2.0");
  std::filesystem::resize_file(frozen() / "state", 999);
  EXPECT_THAT(ErrorOfResume(), HasSubstr("frozen is damaged: state has another size\n  copy it again from"));
}

TEST_F(ResumeFolder, WithoutOneOfItsFilesNamesTheFile) {
  Freeze("7.2.0");
  std::filesystem::remove(frozen() / "kernel");
  EXPECT_THAT(ErrorOfResume(), HasSubstr("snapshot.json: kernel: there is no file \"kernel\""));
}

TEST_F(ResumeFolder, WithABrokenSnapshotNamesTheFile) {
  Freeze("7.2.0");
  internal::WriteWholeFile(frozen() / "snapshot.json", "{\"driver\": 7}");
  EXPECT_THAT(ErrorOfResume(), HasSubstr("snapshot.json: driver: 7 is not allowed; allowed: a string"));
}

}  // namespace
}  // namespace mayfly::cli
