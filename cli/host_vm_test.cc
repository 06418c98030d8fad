// mayfly host: real emulated hosts, and what is in them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using testing::HasSubstr;

class Host : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "not verified here: QEMU's virtiofsd needs root";
  }

  std::vector<std::string> InHost(const std::string& shell, std::vector<std::string> flags = {}) const {
    std::vector<std::string> words = {"host"};
    words.insert(words.end(), flags.begin(), flags.end());
    for (const char* word : {"--", "sh", "-c"}) words.emplace_back(word);
    words.push_back(shell);
    return words;
  }

  internal::TestDirectory directory_;
};

// Makes a VM by KVM's own calls and runs one instruction in it: hlt.
constexpr const char* kKvmProgram = R"py(
import ctypes, fcntl, mmap, os
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
memory = mmap.mmap(-1, 4096)
memory[0] = 0xf4
class Region(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("at", ctypes.c_uint64),
                ("size", ctypes.c_uint64), ("here", ctypes.c_uint64)]
fcntl.ioctl(vm, 0x4020AE46, Region(0, 0, 0, 4096, ctypes.addressof(ctypes.c_char.from_buffer(memory))))
cpu = fcntl.ioctl(vm, 0xAE41, 0)
run = mmap.mmap(cpu, fcntl.ioctl(kvm, 0xAE04, 0))
special = bytearray(312)
fcntl.ioctl(cpu, 0x8138AE83, special)
special[0:8] = bytes(8)                       # cs: base 0
special[12:14] = bytes(2)                     # cs: selector 0
fcntl.ioctl(cpu, 0x4138AE84, bytes(special))
registers = bytearray(144)
registers[136] = 2                            # rflags
fcntl.ioctl(cpu, 0x4090AE82, bytes(registers))
fcntl.ioctl(cpu, 0xAE80, 0)
print("exit reason", int.from_bytes(run[8:12], "little"))
)py";

TEST_F(Host, HasAKvmThatRunsGuests) {
  std::ofstream(directory_ / "kvm.py") << kKvmProgram;
  Outcome outcome = RunMayfly(InHost("python3 " + (directory_ / "kvm.py").string()), {});
  EXPECT_EQ(outcome.out, "exit reason 5\n") << outcome.err;  // KVM_EXIT_HLT
}

TEST_F(Host, SeesThisMachineAndWritesOnlyToShares) {
  std::filesystem::create_directory(directory_ / "out");
  std::ofstream(directory_ / "in") << "blue\n";
  std::string here = directory_.path().string();
  Outcome outcome = RunMayfly(InHost(
      "cat " + here + "/in; echo red > " + here + "/in && cat " + here + "/in; cp " + here + "/in " + here + "/out",
      {"--share", here + "/out"}));
  EXPECT_EQ(outcome.out, "blue\nred\n") << outcome.err;
  EXPECT_EQ(internal::ReadWholeFile(directory_ / "in", 100), "blue\n");
  EXPECT_EQ(internal::ReadWholeFile(directory_ / "out/in", 100), "red\n");
}

TEST_F(Host, PassesStreamsEnvironmentDirectoryAndExitCode) {
  Outcome outcome = RunMayfly(InHost("echo $COLOUR; pwd; cat; echo loud >&2; exit 9", {"--workdir", "/usr/share"}),
                              {.input = "typed\n", .environment = {{"COLOUR", "green"}}});
  EXPECT_EQ(outcome.out, "green\n/usr/share\ntyped\n");
  EXPECT_THAT(outcome.err, HasSubstr("loud\n"));
  EXPECT_EQ(outcome.status.code, 9);
}

TEST_F(Host, HasTheDevicesOfAVirtualisationHost) {
  Outcome outcome = RunMayfly(InHost(
      "for d in kvm net/tun vhost-vsock vhost-net pts/ptmx shm hugepages; do test -e /dev/$d || echo no $d; done;"
      "ip link show lo | grep -c LOWER_UP; unshare -Urn true && echo namespaces"));
  EXPECT_EQ(outcome.out, "1\nnamespaces\n") << outcome.err;
}

TEST_F(Host, LeavesNothingWhenItIsInterrupted) {
  StartedMayfly mayfly(InHost("echo up; sleep 1000"));
  ASSERT_TRUE(mayfly.WaitForOut("up\n")) << mayfly.err();
  mayfly.process().Signal(SIGINT);
  EXPECT_EQ(mayfly.Wait().status.signal, SIGINT);
  EXPECT_EQ(mayfly.Leftovers(), "");
}

TEST_F(Host, ManyAtOnceDoNotMeet) {
  StartedMayfly one(InHost("echo one > /tmp/mayfly-host-test; read go; cat /tmp/mayfly-host-test"),
                    {.open_input = true});
  Outcome two = RunMayfly(InHost("cat /tmp/mayfly-host-test || echo nothing"));
  EXPECT_EQ(two.out, "nothing\n");
  one.Type("go\n");
  one.CloseInput();
  EXPECT_EQ(one.Wait().out, "one\n");
}

}  // namespace
}  // namespace mayfly::cli
