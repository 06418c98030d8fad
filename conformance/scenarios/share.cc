#include <mayfly/internal/files.h>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

namespace fs = std::filesystem;

fs::path Shared(const fs::path& directory) {
  fs::create_directories(directory);
  internal::WriteWholeFile(directory / "of_host", "blue\n");
  return directory;
}

constexpr const char* kMount = "modprobe virtiofs; mkdir -p /shared && mount -t virtiofs share /shared";

SCENARIO_FOR(kShareVirtiofs, "host and guest see each other's files") {
  fs::path directory = Shared(Directory() / "shared");
  Vm& vm = Boot({.shares = {{.tag = "share", .path = directory}}});
  Out(vm, kMount);
  EXPECT_THAT(vm.Exec("cat /shared/of_host"), Prints("blue\n"));
  Out(vm, "echo red > /shared/of_guest");
  EXPECT_EQ(internal::ReadWholeFile(directory / "of_guest", 100), "red\n");
}

REFUSAL_FOR(kShareVirtiofs, "a directory that is not there is refused") {
  EXPECT_THROW(Boot({.shares = {{.tag = "share", .path = Directory() / "none"}}}), BadSpec);
}

SCENARIO_FOR(kShareReadOnly, "root in the guest cannot write, remove or rename") {
  fs::path directory = Shared(Directory() / "shared");
  Vm& vm = Boot({.shares = {{.tag = "share", .path = directory, .readonly = true}}});
  Out(vm, kMount);
  EXPECT_THAT(vm.Exec("cat /shared/of_host"), Prints("blue\n"));
  for (const char* command :
       {"echo red > /shared/of_host", "touch /shared/new", "rm /shared/of_host", "mv /shared/of_host /shared/x",
        "chmod 000 /shared/of_host", "mount -o remount,rw /shared && touch /shared/new"}) {
    EXPECT_THAT(vm.Exec(command), Not(Succeeds()));
  }
  EXPECT_EQ(internal::ReadWholeFile(directory / "of_host", 100), "blue\n");
  EXPECT_FALSE(fs::exists(directory / "new"));
}

SCENARIO_FOR(kShareHotplug, "host and guest see each other's files in a directory that was added while it ran") {
  fs::path directory = Shared(Directory() / "shared");
  Vm& vm = Boot({.machine = MachineKind::kPc});
  EXPECT_THAT(vm.Exec(kMount), Not(Succeeds()));
  vm.machine().AddShare({.tag = "share", .path = directory});
  EXPECT_THAT([&] { return vm.Exec(kMount); }, Eventually(Succeeds(), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec("cat /shared/of_host"), Prints("blue\n"));
  Out(vm, "echo red > /shared/of_guest");
  EXPECT_EQ(internal::ReadWholeFile(directory / "of_guest", 100), "red\n");
  vm.Kill();
  vm.Boot();
  Out(vm, kMount);
  EXPECT_THAT(vm.Exec("cat /shared/of_guest"), Prints("red\n")) << "it is there at the next boot, too";
}

SCENARIO_FOR(kShareHotplug, "a share that is added for reading only is not written to by root, and can be removed") {
  fs::path directory = Shared(Directory() / "shared");
  Vm& vm = Boot({.machine = MachineKind::kPc});
  vm.machine().AddShare({.tag = "share", .path = directory, .readonly = true});
  EXPECT_THAT([&] { return vm.Exec(kMount); }, Eventually(Succeeds(), Scaled(kSoon)));
  EXPECT_THAT(vm.Exec("cat /shared/of_host"), Prints("blue\n"));
  EXPECT_THAT(vm.Exec("echo red > /shared/of_host"), Not(Succeeds()));
  Out(vm, "umount /shared");
  vm.machine().RemoveDevice("share");
  EXPECT_THAT(vm.Exec(kMount), Not(Succeeds()));
  EXPECT_EQ(internal::ReadWholeFile(directory / "of_host", 100), "blue\n");
}

REFUSAL_FOR(kShareHotplug, "a tag that is taken and a directory that is not there are refused") {
  fs::path directory = Shared(Directory() / "shared");
  Vm& vm = Boot({.shares = {{.tag = "share", .path = directory}}, .machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().AddShare({.tag = "share", .path = directory}), BadSpec);
  EXPECT_THROW(vm.machine().AddShare({.tag = "other", .path = Directory() / "none"}), BadSpec);
  Out(vm, kMount);
  EXPECT_THAT(vm.Exec("cat /shared/of_host"), Prints("blue\n"));
}

}  // namespace
}  // namespace mayfly::conformance
