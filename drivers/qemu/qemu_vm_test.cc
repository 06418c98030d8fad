// The driver with real QEMU and real guests.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/driver.h>
#include <mayfly/errors.h>
#include <mayfly/internal/small_file_system.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unix_address.h>
#include <mayfly/vm.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using literals::operator""_MiB;
using std::chrono::milliseconds;
using std::chrono::seconds;

MachineSpec Tiny() {
  MachineSpec spec;
  spec.driver = "qemu";
  return spec;
}

MachineSpec TinyPc() {
  MachineSpec spec = Tiny();
  spec.machine = MachineKind::kPc;
  return spec;
}

std::string Out(Vm& vm, const Command& command) { return vm.Exec(command).OrThrow().out; }

MachineStatus AwaitState(Vm& vm, MachineState state) {
  return vm.machine().WaitForStatus([&](const MachineStatus& status) { return status.state == state; }, ToString(state),
                                    Deadline::After(Scaled(seconds(20))));
}

// Runs what throws and gives its text, after its class.
template <typename Function>
std::string ErrorOf(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return fmt::format("{}: {}", error.kind(), error.what());
  }
  return "no error";
}

// A variable of the environment, set until this goes.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    if (const char* now = std::getenv(name)) before_ = now;
    setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// --- Lifecycle ------------------------------------------------------------------------------------------------------

TEST(QemuLifecycle, APowerCutKeepsWhatWasSyncedAndASecondBootFindsIt) {
  MachineSpec spec = Tiny();
  spec.disks.push_back({.id = "data", .size = 16_MiB});
  Vm vm = Vm::Boot(spec);
  Out(vm, "echo blue | dd of=/dev/vda conv=fsync 2>/dev/null");
  vm.Kill();
  EXPECT_EQ(vm.status(), (MachineStatus{MachineState::kStopped, "killed"}));
  vm.Boot();
  EXPECT_EQ(Out(vm, "head -n 1 /dev/vda"), "blue\n");
}

TEST(QemuLifecycle, PowerOffInTheGuestIsStoppedWithThatReason) {
  Vm vm = Vm::Boot(Tiny());
  EXPECT_THROW(vm.Exec("echo o > /proc/sysrq-trigger; sleep 60"), GuestFailed);
  EXPECT_EQ(AwaitState(vm, MachineState::kStopped).reason, "the guest powered off");
  vm.Boot();
  EXPECT_EQ(vm.status().state, MachineState::kReady);
}

TEST(QemuLifecycle, AVmmThatIsKilledIsFailedWithHowItEnded) {
  Vm vm = Vm::Boot(Tiny());
  pid_t pid = vm.machine().Info().pid;
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  EXPECT_THAT(AwaitState(vm, MachineState::kFailed).reason, HasSubstr("killed by SIGKILL"));
  EXPECT_THAT(ErrorOf([&] { vm.Exec("true"); }), HasSubstr("killed by SIGKILL"));
  EXPECT_EQ(kill(pid, 0), -1) << "it is reaped";
}

TEST(QemuLifecycle, NothingIsLeftWhenTheVmGoes) {
  std::optional<Vm> vm = Vm::Boot(Tiny());
  pid_t pid = vm->machine().Info().pid;
  fs::path directory = vm->machine().sandbox().directory();
  ASSERT_EQ(kill(pid, 0), 0);
  ASSERT_TRUE(fs::exists(directory));
  vm.reset();
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_FALSE(fs::exists(directory));
}

TEST(QemuLifecycle, ResetRestartsTheGuestInTheSameProcess) {
  Vm vm = Vm::Boot(Tiny());
  pid_t pid = vm.machine().Info().pid;
  Out(vm, "touch /before");
  vm.Reset();
  EXPECT_EQ(vm.machine().Info().pid, pid);
  EXPECT_FALSE(vm.Stat("/before"));
}

TEST(QemuLifecycle, AGuestThatRestartsByItselfIsSeenByTheEvent) {
  Vm vm = Vm::Boot(Tiny());
  size_t from = vm.machine().timeline().size();
  EXPECT_THROW(vm.Exec("echo b > /proc/sysrq-trigger; sleep 60"), GuestFailed);
  auto is_reset = [](const Event& event) { return event.name == "RESET"; };
  auto event = vm.machine().timeline().WaitFor(is_reset, Deadline::After(Scaled(seconds(20))), from);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->detail, "guest-reset");
  EXPECT_EQ(AwaitState(vm, MachineState::kReady).state, MachineState::kReady) << "it comes up again";
}

TEST(QemuLifecycle, APauseStopsTheGuestAndItsClock) {
  Vm vm = Vm::Boot(Tiny());
  auto uptime = [&] { return std::stod(Out(vm, "cut -d' ' -f1 /proc/uptime")); };
  double before = uptime();
  auto began = Clock::now();
  vm.machine().Pause();
  EXPECT_TRUE(vm.status().paused);
  auto answer = std::async(std::launch::async, [&] { return uptime(); });
  EXPECT_EQ(answer.wait_for(milliseconds(1500)), std::future_status::timeout) << "a paused guest answered";
  vm.machine().Resume();
  double guest = answer.get() - before;
  double host = std::chrono::duration<double>(Clock::now() - began).count();
  EXPECT_FALSE(vm.status().paused);
  EXPECT_LT(guest, host - 1.4);
}

TEST(QemuLifecycle, BootingTwiceIsRefused) {
  Vm vm = Vm::Boot(Tiny());
  EXPECT_THAT(ErrorOf([&] { vm.machine().Boot(); }), AllOf(StartsWith("BadSpec"), HasSubstr("Ready already")));
  EXPECT_TRUE(vm.Exec("true").ok()) << "unharmed";
}

TEST(QemuLifecycle, OperationsOnAStoppedMachineSayWhy) {
  Vm vm = Vm::Boot(Tiny());
  vm.Kill();
  EXPECT_THAT(ErrorOf([&] { vm.machine().Pause(); }), AllOf(StartsWith("BadSpec"), HasSubstr("killed")));
}

TEST(QemuLifecycle, APanicThatPvpanicTellsFailsTheMachineAndLeavesItForALook) {
  MachineSpec spec = Tiny();
  spec.pvpanic = true;
  internal::TestDirectory directory;
  Vm vm = Vm::Boot(spec);
  Out(vm, "modprobe pvpanic-mmio");
  EXPECT_THROW(vm.Exec("echo c > /proc/sysrq-trigger"), Error);
  EXPECT_EQ(AwaitState(vm, MachineState::kFailed).reason, "the guest panicked");
  vm.machine().CoreDump(directory.path() / "core");
  EXPECT_GT(fs::file_size(directory.path() / "core"), spec.memory.count() / 2);
  vm.Kill();
  vm.Boot();
  EXPECT_TRUE(vm.Exec("true").ok());
}

// --- What the guest has ---------------------------------------------------------------------------------------------

TEST(QemuGuest, HasTheProcessorsAndMemoryAskedFor) {
  MachineSpec spec = Tiny();
  spec.cpus = 2;
  spec.memory = 384_MiB;
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "nproc"), "2\n");
  uint64_t mib = std::stoull(Out(vm, "awk '/MemTotal/{print int($2/1024)}' /proc/meminfo"));
  EXPECT_GT(mib, 384U * 8 / 10);
  EXPECT_LE(mib, 384U);
  EXPECT_EQ(vm.machine().Info().machine, "microvm");
}

TEST(QemuGuest, HasTheTopologyAskedFor) {
  MachineSpec spec = Tiny();
  spec.cpus = 4;
  spec.topology = {.sockets = 2, .dies = 1, .cores = 1, .threads = 2};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list"), "0-1\n");
  EXPECT_EQ(
      Out(vm, "cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | sort | uniq -c | awk '{print $1}'"),
      "2\n2\n");
}

TEST(QemuGuest, HasDisksInOrderWithTheirIdsAndSizes) {
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "first", .size = 16_MiB}, {.id = "second", .size = 32_MiB}, {.id = "third", .size = 8_MiB}};
  for (MachineKind kind : {MachineKind::kMicro, MachineKind::kPc}) {
    spec.machine = kind;
    Vm vm = Vm::Boot(spec);
    EXPECT_EQ(Out(vm, "for d in vda vdb vdc; do cat /sys/block/$d/serial; echo \" $(cat /sys/block/$d/size)\"; done"),
              "first 32768\nsecond 65536\nthird 16384\n");
  }
}

TEST(QemuGuest, WritesToAPrivateCloneOfADisk) {
  internal::TestDirectory directory;
  fs::path image = directory.path() / "base.raw";
  std::ofstream(image) << "original\n";
  fs::resize_file(image, (4_MiB).count());
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "mine", .path = image.string(), .size = 8_MiB}};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "head -n 1 /dev/vda"), "original\n");
  Out(vm, "echo changed | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null");
  EXPECT_EQ(Out(vm, "head -n 1 /dev/vda; cat /sys/block/vda/size"), "changed\n16384\n");
  vm.Kill();
  std::string line;
  std::getline(std::ifstream(image) >> std::ws, line);
  EXPECT_EQ(line, "original");
  EXPECT_EQ(fs::file_size(image), (4_MiB).count());
}

TEST(QemuGuest, CannotWriteToAReadOnlyDisk) {
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "ro", .size = 4_MiB, .readonly = true}};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "cat /sys/block/vda/ro"), "1\n");
  EXPECT_FALSE(vm.Exec("echo x | dd of=/dev/vda conv=fsync").ok());
}

TEST(QemuGuest, SeesItsDisksWriteCacheAsTheModeSays) {
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "back", .size = 4_MiB, .cache = DiskCache::kWriteback},
                {.id = "through", .size = 4_MiB, .cache = DiskCache::kWritethrough}};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "cat /sys/block/vda/queue/write_cache /sys/block/vdb/queue/write_cache"),
            "write back\nwrite through\n");
}

TEST(QemuGuest, ReadsItsSeedFromTheDiskLabelledCidata) {
  MachineSpec spec = Tiny();
  spec.name = "kv";
  spec.seed = Seed{.user_data = "#cloud-config\nhostname: kv\n", .network_config = "version: 2\n"};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "dd if=/dev/vda bs=1 skip=32808 count=6 2>/dev/null"), "CIDATA");
  Out(vm, "mkdir -p /seed && mount -t iso9660 -o ro /dev/vda /seed");
  EXPECT_EQ(vm.ReadFile("/seed/user-data"), "#cloud-config\nhostname: kv\n");
  EXPECT_EQ(vm.ReadFile("/seed/meta-data"), "instance-id: kv\nlocal-hostname: kv\n");
  EXPECT_EQ(vm.ReadFile("/seed/network-config"), "version: 2\n");
}

TEST(QemuGuest, GetsEntropyFromTheHost) {
  Vm vm = Vm::Boot(Tiny());
  EXPECT_THAT(Out(vm, "cat /sys/class/misc/hw_random/rng_current"), StartsWith("virtio_rng"));
  EXPECT_EQ(Out(vm, "dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c"), "16\n");
}

TEST(QemuGuest, HasTheMacsAndMtusOfItsNics) {
  MachineSpec spec = Tiny();
  spec.nics = {{.id = "a", .kind = NicKind::kNone, .mac = "52:54:00:12:34:56", .mtu = 1400},
               {.id = "b", .kind = NicKind::kNone}};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu"), "52:54:00:12:34:56\n1400\n");
  std::string made_up = Out(vm, "cat /sys/class/net/eth1/address");
  EXPECT_THAT(made_up, StartsWith("02:"));
  vm.Kill();
  vm.Boot();
  EXPECT_EQ(Out(vm, "cat /sys/class/net/eth1/address"), made_up) << "the same VM has the same address";
}

TEST(QemuGuest, SpeaksToTheNatOfTheVmm) {
  MachineSpec spec = Tiny();
  spec.nics = {{.id = "net", .kind = NicKind::kNat}};
  Vm vm = Vm::Boot(spec);
  Out(vm, "ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0");
  EXPECT_THAT(Out(vm, "ping -c 1 -W 5 10.0.2.2"), HasSubstr("1 packets received"));
}

TEST(QemuGuest, SendsItsFramesToADatagramSocket) {
  internal::TestDirectory directory;
  fs::path path = directory.path() / "switch.sock";
  internal::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = internal::UnixAddress(path).value();
  ASSERT_EQ(bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);  // NOLINT
  timeval patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);

  MachineSpec spec = Tiny();
  spec.nics = {{.id = "l2", .kind = NicKind::kSocket, .mac = "52:54:00:00:00:01", .source = path.string()}};
  Vm vm = Vm::Boot(spec);
  Out(vm, "ip link set eth0 up && ip addr add 10.9.9.1/24 dev eth0");
  GuestProcess ping = vm.Start("ping -c 1 10.9.9.2");  // which asks for that address first
  const std::string arp("\xff\xff\xff\xff\xff\xff\x52\x54\0\0\0\x01\x08\x06", 14);
  std::array<char, 2048> frame{};
  ssize_t size = 0;
  do {  // router solicitations and the like come besides
    size = recv(socket.get(), frame.data(), frame.size(), 0);
  } while (size >= 14 && std::string(frame.data(), 14) != arp);
  EXPECT_GE(size, 42) << "the request did not arrive";
}

TEST(QemuGuest, WaitsForADiskThatIsLimited) {
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "slow", .size = 16_MiB, .limit = {.operations_per_second = 20}}};
  Vm vm = Vm::Boot(spec);
  auto read_sixty = [&] {
    ExecResult result = vm.Exec("dd if=/dev/vda of=/dev/null bs=4096 count=60 iflag=direct").OrThrow();
    return std::chrono::duration<double>(result.took).count();
  };
  EXPECT_GT(read_sixty(), 1.5) << "60 operations at 20 a second";
  vm.machine().SetRateLimit("slow", {.operations_per_second = 100000});
  EXPECT_LT(read_sixty(), 1.5);
}

TEST(QemuGuest, KeepsItsConsoleLogWhereverTheSerialPortGoes) {
  for (SerialKind kind : {SerialKind::kFile, SerialKind::kPty, SerialKind::kSocket}) {
    MachineSpec spec = Tiny();
    spec.serial = kind;
    Vm vm = Vm::Boot(spec);
    Out(vm, "echo marked > /dev/ttyS0");
    vm.WaitForConsole("marked", Scaled(seconds(10)));
    if (kind != SerialKind::kPty) continue;
    auto event =
        vm.machine().timeline().WaitFor([](const Event& e) { return e.name == "serial"; }, Deadline::After(seconds(0)));
    ASSERT_TRUE(event);
    internal::UniqueFd pty(open(event->detail.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_TRUE(pty) << event->detail;
  }
}

TEST(QemuGuest, IsSplitIntoNumaNodes) {
  MachineSpec spec = Tiny();
  spec.cpus = 2;
  spec.memory = 512_MiB;
  spec.zones = {{.id = "near", .size = 256_MiB, .cpus = {0}}, {.id = "far", .size = 256_MiB, .cpus = {1}}};
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(Out(vm, "cat /sys/devices/system/node/node*/cpulist"), "0\n1\n");
}

TEST(QemuGuest, RunsItsVcpusWhereTheyAreBound) {
  MachineSpec spec = Tiny();
  spec.affinity = {{.vcpu = 0, .host_cpus = {0}}};
  Vm vm = Vm::Boot(spec);
  bool bound = false;
  for (const auto& task : fs::directory_iterator(fmt::format("/proc/{}/task", vm.machine().Info().pid))) {
    std::ifstream status(task.path() / "status");
    std::string text{std::istreambuf_iterator<char>(status), {}};
    bound |= text.find("CPU 0/") != std::string::npos && text.find("Cpus_allowed_list:\t0\n") != std::string::npos;
  }
  EXPECT_TRUE(bound);
}

TEST(QemuGuest, GivesMemoryToTheBalloonAndGetsItBack) {
  MachineSpec spec = Tiny();
  spec.balloon = Balloon{};
  Vm vm = Vm::Boot(spec);
  Out(vm, "modprobe virtio_balloon");
  auto change = [&](Bytes size) {
    size_t from = vm.machine().timeline().size();
    vm.machine().SetBalloon(size);
    std::string actual = std::to_string((spec.memory - size).count());
    auto reached = [&](const Event& e) {
      return e.name == "BALLOON_CHANGE" && e.detail.find(actual) != std::string::npos;
    };
    EXPECT_TRUE(vm.machine().timeline().WaitFor(reached, Deadline::After(Scaled(seconds(20))), from));
    return std::stol(Out(vm, "awk '/MemFree/{print int($2/1024)}' /proc/meminfo"));
  };
  long full = change(64_MiB);
  long empty = change(Bytes());
  EXPECT_NEAR(static_cast<double>(empty - full), 64, 8);
  EXPECT_THAT(ErrorOf([&] { vm.machine().SetBalloon(spec.memory); }), StartsWith("BadSpec"));
}

TEST(QemuGuest, CountsWhatItsDisksDo) {
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "data", .size = 16_MiB}};
  Vm vm = Vm::Boot(spec);
  uint64_t before = vm.machine().Counters().at("data").at("written_bytes");
  Out(vm, "dd if=/dev/zero of=/dev/vda bs=1M count=4 conv=fsync 2>/dev/null");
  EXPECT_EQ(vm.machine().Counters().at("data").at("written_bytes") - before, (4_MiB).count());
}

TEST(QemuGuest, SeesADiskGrow) {
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "data", .size = 16_MiB}};
  Vm vm = Vm::Boot(spec);
  vm.machine().ResizeDisk("data", 32_MiB);
  vm.WaitUntilSucceeds("test $(cat /sys/block/vda/size) = 65536", Scaled(seconds(10)));
  EXPECT_THAT(ErrorOf([&] { vm.machine().ResizeDisk("data", 8_MiB); }),
              AllOf(StartsWith("BadSpec"), HasSubstr("only grow")));
  EXPECT_THAT(ErrorOf([&] { vm.machine().ResizeDisk("other", 64_MiB); }),
              AllOf(StartsWith("BadSpec"), HasSubstr("data")));
}

TEST(QemuGuest, GetsAnNmi) {
  Vm vm = Vm::Boot(Tiny());
  vm.machine().InjectNmi();
  vm.WaitUntilSucceeds("dmesg | grep -q 'Dazed and confused'", Scaled(seconds(10)));
}

// --- Hotplug --------------------------------------------------------------------------------------------------------

TEST(QemuHotplug, OfADiskWhichStaysOverAPowerCutUntilItIsRemoved) {
  Vm vm = Vm::Boot(TinyPc());
  vm.machine().AddDisk({.id = "hot", .size = 16_MiB});
  vm.WaitForFile("/sys/block/vda", Scaled(seconds(10)));
  EXPECT_EQ(Out(vm, "cat /sys/block/vda/serial"), "hot");
  Out(vm, "echo blue | dd of=/dev/vda conv=fsync 2>/dev/null");
  vm.Kill();
  vm.Boot();
  EXPECT_EQ(Out(vm, "head -n 1 /dev/vda"), "blue\n");

  vm.machine().AddDisk({.id = "second", .size = 16_MiB});
  vm.WaitForFile("/sys/block/vdb", Scaled(seconds(10)));
  vm.machine().RemoveDevice("second");
  EXPECT_FALSE(vm.Stat("/sys/block/vdb"));
  vm.machine().AddDisk({.id = "third", .size = 16_MiB});
  vm.WaitForFile("/sys/block/vdb", Scaled(seconds(10)));
}

TEST(QemuHotplug, OfANic) {
  Vm vm = Vm::Boot(TinyPc());
  vm.machine().AddNic({.id = "hot", .kind = NicKind::kNat, .mac = "52:54:00:12:34:56"});
  vm.WaitForFile("/sys/class/net/eth0", Scaled(seconds(10)));
  EXPECT_EQ(Out(vm, "cat /sys/class/net/eth0/address"), "52:54:00:12:34:56\n");
  vm.machine().RemoveDevice("hot");
  EXPECT_FALSE(vm.Stat("/sys/class/net/eth0"));
}

TEST(QemuHotplug, OfProcessors) {
  MachineSpec spec = Tiny();
  spec.max_cpus = 3;
  Vm vm = Vm::Boot(spec);
  EXPECT_EQ(vm.machine().Info().machine, "q35");
  vm.machine().ResizeCpus(2);
  vm.WaitForFile("/sys/devices/system/cpu/cpu1/online", Scaled(seconds(10)));
  Out(vm, "echo 1 > /sys/devices/system/cpu/cpu1/online");
  EXPECT_EQ(Out(vm, "nproc"), "2\n");
  EXPECT_THAT(ErrorOf([&] { vm.machine().ResizeCpus(4); }), AllOf(StartsWith("BadSpec"), HasSubstr("1 to 3")));
}

TEST(QemuHotplug, OfMemory) {
  MachineSpec spec = Tiny();
  spec.max_memory = 512_MiB;
  Vm vm = Vm::Boot(spec);
  auto total = [&] { return std::stol(Out(vm, "awk '/MemTotal/{print int($2/1024)}' /proc/meminfo")); };
  long before = total();
  vm.machine().ResizeMemory(512_MiB);
  vm.WaitUntilSucceeds(fmt::format("test $(awk '/MemTotal/{{print int($2/1024)}}' /proc/meminfo) -ge {}", before + 250),
                       Scaled(seconds(20)));
  vm.machine().ResizeMemory(256_MiB);
  EXPECT_NEAR(static_cast<double>(total()), static_cast<double>(before), 8);
  EXPECT_THAT(ErrorOf([&] { vm.machine().ResizeMemory(1_MiB); }),
              AllOf(StartsWith("BadSpec"), HasSubstr("256MiB to 512MiB")));
}

TEST(QemuHotplug, IsRefusedWhereTheMachineHasNoSlots) {
  Vm vm = Vm::Boot(Tiny());
  EXPECT_THAT(ErrorOf([&] { vm.machine().AddDisk({.id = "hot", .size = 16_MiB}); }),
              AllOf(StartsWith("Unsupported"), HasSubstr("\"machine\": \"pc\"")));
  EXPECT_TRUE(vm.Exec("true").ok()) << "unharmed";
}

TEST(QemuHotplug, RefusesAnIdThatIsTakenAndADeviceThatIsNotThere) {
  MachineSpec spec = TinyPc();
  spec.disks = {{.id = "data", .size = 4_MiB}};
  Vm vm = Vm::Boot(spec);
  EXPECT_THAT(ErrorOf([&] { vm.machine().AddDisk({.id = "data", .size = 4_MiB}); }),
              HasSubstr("taken by another device"));
  EXPECT_THAT(ErrorOf([&] { vm.machine().RemoveDevice("data"); }), StartsWith("BadSpec"));
  EXPECT_THAT(ErrorOf([&] { vm.machine().AddNic({.id = "lan", .kind = NicKind::kBridged, .source = "br0"}); }),
              StartsWith("Unsupported"));
}

// --- What can go wrong ----------------------------------------------------------------------------------------------

TEST(QemuFailure, AQemuThatDiesAtStartGivesItsLastWords) {
  ScopedVariable bad("MAYFLY_QEMU_ARGS", "-device no-such-device");
  EXPECT_THAT(ErrorOf([] { Vm::Boot(Tiny()); }),
              AllOf(StartsWith("VmmDied"), HasSubstr("'no-such-device' is not a valid device model name"),
                    HasSubstr("exit code 1")));
}

TEST(QemuFailure, AFileThatIsNoKernelIsTheSpecsFault) {
  internal::TestDirectory directory;
  fs::path kernel = directory.path() / "kernel";
  std::ofstream(kernel) << "I am a text file, and far too short.\n";
  MachineSpec spec = Tiny();
  spec.image = "";
  spec.name = "bad";
  spec.boot.kernel = kernel.string();
  auto machine = FindDriver("qemu").Create(spec, Sandbox::Create("bad"));
  EXPECT_THAT(ErrorOf([&] { machine->Boot(); }),
              AllOf(StartsWith("BadSpec"), HasSubstr("boot.kernel"), HasSubstr("invalid kernel header")));
  EXPECT_EQ(machine->status().state, MachineState::kFailed);
}

TEST(QemuFailure, ADiskThatAnotherVmWritesToIsInUse) {
  internal::TestDirectory directory;
  fs::path image = directory.path() / "shared.raw";
  std::ofstream(image) << "x";
  fs::resize_file(image, (4_MiB).count());
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "shared", .path = image.string(), .clone = false}};
  Vm first = Vm::Boot(spec);
  EXPECT_THAT(ErrorOf([&] { Vm::Boot(spec); }), AllOf(StartsWith("HostLacks"), HasSubstr("in use by another process")));
  EXPECT_TRUE(first.Exec("true").ok());
}

TEST(QemuFailure, AHostDiskThatRunsFullFailsTheMachineAndNamesTheDisk) {
  internal::SmallFileSystem small;
  if (!small.mounted()) GTEST_SKIP() << internal::SmallFileSystem::kWhyNot;
  fs::path image = small.path() / "data.raw";
  std::ofstream(image).close();
  fs::resize_file(image, (64_MiB).count());
  MachineSpec spec = Tiny();
  spec.disks = {{.id = "data", .path = image.string(), .clone = false}};
  Vm vm = Vm::Boot(spec);
  EXPECT_THROW(vm.Exec("dd if=/dev/zero of=/dev/vda bs=1M count=32 conv=fsync", {.timeout = seconds(20)}), Error);
  EXPECT_EQ(AwaitState(vm, MachineState::kFailed).reason, "the host has no space left for disk 'data'");
}

TEST(QemuFailure, AGuestThatIgnoresThePowerButtonIsKilledAfterItsGrace) {
  Vm vm = Vm::Boot(Tiny());
  Out(vm, "rmmod button 2>/dev/null; true");
  EXPECT_FALSE(vm.machine().Stop(milliseconds(300)));
  EXPECT_EQ(vm.status(), (MachineStatus{MachineState::kStopped, "killed"}));
}

TEST(QemuInfo, TellsWhatWasChosenAndACommandLineThatRuns) {
  ScopedVariable software("MAYFLY_ACCEL", "tcg");
  Vm vm = Vm::Boot(Tiny());
  MachineInfo info = vm.machine().Info();
  EXPECT_EQ(info.driver, "qemu");
  EXPECT_THAT(info.vmm, StartsWith("QEMU "));
  EXPECT_EQ(info.accelerator, "tcg");
  EXPECT_EQ(info.accelerator_reason, "MAYFLY_ACCEL=tcg");
  ASSERT_FALSE(info.command_line.empty());
  EXPECT_THAT(fs::path(info.command_line[0]).filename().string(), StartsWith("qemu-system"));
  EXPECT_THAT(info.command_line, testing::Contains(HasSubstr("/qmp.sock,server=on")));
}

TEST(QemuInfo, AWrongAcceleratorVariableIsNamed) {
  ScopedVariable wrong("MAYFLY_ACCEL", "warp");
  EXPECT_THAT(ErrorOf([] { Vm::Boot(Tiny()); }),
              AllOf(StartsWith("BadSpec"), HasSubstr("\"warp\""), HasSubstr("kvm, tcg, auto")));
}

// --- Shared directories ---------------------------------------------------------------------------------------------

// A directory of the host with a file in it, and what guests mount.
class SharedDirectory : public testing::TestWithParam<MachineKind> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "not verified here: QEMU's virtiofsd needs root";
    fs::create_directory(directory_ / "src");
    std::ofstream(directory_ / "src/of_host") << "blue\n";
  }

  MachineSpec Spec(bool readonly) const {
    MachineSpec spec = Tiny();
    spec.machine = GetParam();
    spec.shares = {{.tag = "src", .path = directory_ / "src", .readonly = readonly}};
    return spec;
  }

  internal::TestDirectory directory_;
};

constexpr const char* kMountShare = "modprobe virtiofs && mkdir -p /src && mount -t virtiofs src /src";

TEST_P(SharedDirectory, IsSeenFromBothSidesAndServedAnewAtEachBoot) {
  Vm vm = Vm::Boot(Spec(/*readonly=*/false));
  Out(vm, kMountShare);
  EXPECT_EQ(Out(vm, "cat /src/of_host"), "blue\n");
  Out(vm, "echo red > /src/of_guest");
  vm.Kill();
  vm.Boot();
  Out(vm, kMountShare);
  EXPECT_EQ(Out(vm, "cat /src/of_guest"), "red\n");
  vm.machine().Reset();
}

TEST_P(SharedDirectory, ReadOnlyHoldsForMountsBelowIt) {
  Vm vm = Vm::Boot(Spec(/*readonly=*/true));
  Out(vm, kMountShare);
  EXPECT_EQ(Out(vm, "cat /src/of_host"), "blue\n");
  for (const char* command :
       {"echo red > /src/of_host", "rm /src/of_host", "touch /src/new", "mount -o remount,rw /src && touch /src/new"}) {
    EXPECT_NE(vm.Exec(command).exit_code, 0) << command;
  }
  EXPECT_TRUE(fs::exists(directory_ / "src/of_host"));
  EXPECT_FALSE(fs::exists(directory_ / "src/new"));
}

INSTANTIATE_TEST_SUITE_P(Machines, SharedDirectory, testing::Values(MachineKind::kMicro, MachineKind::kPc),
                         [](const auto& row) { return row.param == MachineKind::kPc ? "Pc" : "Micro"; });

}  // namespace
}  // namespace mayfly
