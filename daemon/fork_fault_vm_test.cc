// Forks on hosts that lack something, or that somebody has meddled with: a clear error or a way around it, and the pool
// goes on.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/own_templates.h>
#include <mayfly/internal/small_file_system.h>
#include <mayfly/internal/template_store.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/snapshot.h>
#include <mayfly/vm.h>
#include <sys/resource.h>

#include <string>
#include <vector>

#include "daemon/pool_fixture.h"

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using literals::operator""_MiB;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::SizeIs;

MachineSpec Small() { return {.memory = 128_MiB}; }

Vm Fork() { return Vm::Fork(Small()); }

std::string Out(Vm& vm, const std::string& command) { return vm.Exec(command).OrThrow().out; }

// The words of the error that ends a function; fails the test when none does.
template <typename Function>
std::string ErrorOf(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return std::string(error.kind()) + ": " + error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

class ForkFault : public PoolFixture {
 protected:
  void SetUp() override {
    PoolFixture::SetUp();
    Set("MAYFLY_POOL_WARM", "0");
  }

  // A program that does something first.
  fs::path Script(const std::string& name, const std::string& text) const {
    fs::path script = directory_ / name;
    WriteWholeFile(script, "#!/bin/sh\n" + text, 0700);
    return script;
  }

  void TearDown() override {
    PoolFixture::TearDown();
    for (const char* name : {"MAYFLY_CACHE_DIR", "MAYFLY_QEMU"}) unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
  }

  TestDirectory directory_;
};

TEST_F(ForkFault, SixtyFourDescriptorsAreEnoughForSomeAndOneTooManyIsTold) {
  Set("MAYFLY_DAEMON", Script("few", "ulimit -n 64\nexec " + DaemonProgram().string() + " \"$@\"\n"));
  rlimit usual{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  rlimit few{64, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<Vm> vms;
  std::string error = ErrorOf([&] {
    while (vms.size() < 64) vms.push_back(Fork());
  });
  EXPECT_THAT(error, AllOf(AnyOf(HasSubstr("descriptor"), HasSubstr("open files")), HasSubstr("ulimit -n")));
  EXPECT_GT(vms.size(), 2U);
  for (Vm& vm : vms) EXPECT_EQ(Out(vm, "echo alive"), "alive\n");
  vms.pop_back();
  vms.pop_back();
  EXPECT_EQ(Out(*std::make_unique<Vm>(Fork()), "echo again"), "again\n");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
}

TEST_F(ForkFault, AFullRuntimeDirectoryIsToldAndNothingElseSuffers) {
  SmallFileSystem small("8m");
  if (!small.mounted()) GTEST_SKIP() << SmallFileSystem::kWhyNot;
  Fork();  // the template is there
  Set("MAYFLY_RUNTIME_DIR", small.path());
  MachineSpec with_disk = Small();
  with_disk.disks.push_back({.id = "data", .size = 16_MiB});
  {
    Vm before = Vm::Fork(with_disk);
    small.Fill();
    std::string error = ErrorOf([&] { Vm::Fork(with_disk); });
    EXPECT_THAT(error,
                AllOf(HasSubstr("HostLacks"), HasSubstr("No space left on device"), HasSubstr(small.path().native())));
    EXPECT_EQ(Out(before, "echo alive"), "alive\n");
    fs::remove(small.path() / "filler");
    Vm after = Vm::Fork(with_disk);
    EXPECT_EQ(Out(after, "echo again"), "again\n");
  }
  StopDaemons();  // the one that has this directory
  Set("MAYFLY_RUNTIME_DIR", runtime().native());
}

TEST_F(ForkFault, ATemplateOfAnotherQemuIsNotUsed) {
  TemplateStore store = UseOwnTemplates(directory_ / "cache");
  Fork();
  ASSERT_THAT(store.List(), SizeIs(1));
  fs::path old = store.List()[0].directory;
  // The same program by another version.
  fs::path other = Script("qemu",
                          "[ \"$1\" != --version ] || { echo QEMU emulator version 9.9.9; exit; }\n"
                          "exec qemu-system-x86_64 \"$@\"\n");
  Set("MAYFLY_QEMU", other);
  Vm vm = Fork();
  EXPECT_EQ(vm.machine().Info().vmm, "QEMU 9.9.9");
  EXPECT_THAT(store.List(), SizeIs(2));
  EXPECT_THAT(ErrorOf([&] { Lease::OpenFork(old); }),
              AllOf(HasSubstr("was saved by VMM " + ReadSnapshot(old).vmm), HasSubstr("here it is QEMU 9.9.9"),
                    HasSubstr("set MAYFLY_QEMU")));
}

TEST_F(ForkFault, ADamagedTemplateIsBuiltAgain) {
  TemplateStore store = UseOwnTemplates(directory_ / "cache");
  Fork();
  ASSERT_THAT(store.List(), SizeIs(1));
  fs::path damaged = store.List()[0].directory;
  fs::resize_file(damaged / "state", 1000);
  EXPECT_EQ(Out(*std::make_unique<Vm>(Fork()), "echo alive"), "alive\n");
  std::string error = ErrorOf([&] { Lease::OpenFork(damaged); });
  EXPECT_THAT(error, AllOf(HasSubstr(damaged.native()), HasSubstr("state"))) << "who had found it before";

  ASSERT_THAT(store.List(), SizeIs(2));
  fs::path next = store.List()[0].directory == damaged ? store.List()[1].directory : store.List()[0].directory;
  fs::resize_file(next / "memory" / "ram", 4096);
  error = ErrorOf([&] { Lease::OpenFork(next); });
  EXPECT_THAT(error, AllOf(HasSubstr(next.native()), HasSubstr("backing store size"))) << "QEMU's own words";
  EXPECT_EQ(Out(*std::make_unique<Vm>(Fork()), "echo again"), "again\n");
}

TEST_F(ForkFault, AStateThatIsDamagedUnderAStartedVmmIsToldAndWhatWasReadBeforeGoesOn) {
  TemplateStore store = UseOwnTemplates(directory_ / "cache");
  Fork();  // the template is there
  fs::path damaged = store.List().at(0).directory;
  Set("MAYFLY_POOL_WARM", "1");
  Fork();
  Await("warm", 1);
  Await("started", 1);
  fs::resize_file(damaged / "state", 1000);  // the started VMM has this very file open
  Lease::Fork warm = Lease::OpenFork(damaged);
  std::string error = ErrorOf([&] { Lease::OpenFork(damaged); });
  EXPECT_THAT(error, AllOf(HasSubstr(damaged.native()), HasSubstr("state")));
  EXPECT_FALSE(warm.machine.vmm->Poll()) << "it had its state already";
  EXPECT_EQ(Out(*std::make_unique<Vm>(Fork()), "echo again"), "again\n") << "of a template that was built again";
}

TEST_F(ForkFault, AFullCacheIsToldAndKeepsNoHalfOfATemplate) {
  SmallFileSystem small("24m");  // less than a guest writes to its memory while it boots
  if (!small.mounted()) GTEST_SKIP() << SmallFileSystem::kWhyNot;
  TemplateStore store = UseOwnTemplates(small.path() / "cache");
  EXPECT_THAT(ErrorOf(Fork), AllOf(HasSubstr("HostLacks"), HasSubstr("No space left on device"),
                                   HasSubstr(small.path().native()), HasSubstr("MAYFLY_CACHE_DIR")));
  EXPECT_THAT(store.List(), SizeIs(0));
  EXPECT_THAT(store.FindGarbage(), SizeIs(0));
  small.Resize("512m");
  EXPECT_EQ(Out(*std::make_unique<Vm>(Fork()), "echo alive"), "alive\n");
}

TEST_F(ForkFault, DirectoriesMayBeFortyDeepWhereNoSocketIs) {
  fs::path deep = directory_.path();
  for (int level = 0; level < 40; ++level) deep /= "level-" + std::to_string(level);
  fs::create_directories(deep);
  UseOwnTemplates(deep / "cache");
  fs::path before = fs::current_path();
  fs::current_path(deep);
  EXPECT_EQ(Out(*std::make_unique<Vm>(Fork()), "echo alive"), "alive\n");
  Set("MAYFLY_RUNTIME_DIR", deep);
  EXPECT_THAT(ErrorOf(Fork), AllOf(HasSubstr("BadSpec"), HasSubstr("MAYFLY_RUNTIME_DIR"), HasSubstr("leave room for")));
  Set("MAYFLY_RUNTIME_DIR", runtime());
  fs::current_path(before);
}

}  // namespace
}  // namespace mayfly::internal
