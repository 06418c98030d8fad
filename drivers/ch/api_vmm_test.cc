// The client against the real program, as far as that goes without KVM: it opens /dev/kvm only when a VM boots.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/error_of_fixture.h>
#include <mayfly/internal/message_socket.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "drivers/ch/api_error.h"
#include "drivers/ch/real_vmm_fixture.h"

namespace mayfly::ch {
namespace {

using internal::ErrorOf;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

TEST_F(RealVmm, Pings) {
  Ping ping = api_->PingVmm(Soon());
  EXPECT_EQ(ping.pid, vmm_->pid());
  EXPECT_FALSE(ping.version.empty());
  EXPECT_THAT(ping.features, Contains("kvm"));
}

TEST_F(RealVmm, ShutsDownInOrder) {
  api_->ShutdownVmm(Soon());
  EXPECT_TRUE(vmm_->Wait(Soon()).ok());
  EXPECT_THAT(Events(), IsSupersetOf({"vmm/starting", "vmm/shutdown"}));
}

TEST_F(RealVmm, KeepsTheConfigThatItWasGiven) {
  VmConfig config{
      .cpus = CpusConfig{.boot_vcpus = 2, .max_vcpus = 4},
      .memory = MemoryConfig{.size = uint64_t{256} << 20, .shared = true},
      .payload = PayloadConfig{.kernel = "/boot/none", .cmdline = "console=ttyS0"},
      .disks = {{.pci = {.id = "root"}, .path = "/none.raw", .serial = "root", .image_type = ImageType::kRaw}},
      .serial = SerialConfig{.file = (directory_ / "serial").string(), .mode = ConsoleMode::kFile},
      .console = ConsoleConfig{},
      .vsock = VsockConfig{.cid = 9, .socket = (directory_ / "v").string()},
      .pvpanic = true,
      .watchdog = true};
  api_->Create(config, Soon());
  VmInfo info = api_->Info(Soon());
  EXPECT_EQ(info.state, VmState::kCreated);
  EXPECT_EQ(info.config.cpus->max_vcpus, 4);
  EXPECT_EQ(info.config.memory->size, uint64_t{256} << 20);
  EXPECT_EQ(info.config.payload, config.payload);
  ASSERT_EQ(info.config.disks.size(), 1);
  EXPECT_EQ(info.config.disks[0].pci.id, "root");
  EXPECT_EQ(info.config.disks[0].image_type, ImageType::kRaw);
  EXPECT_EQ(info.config.serial, config.serial);
  EXPECT_EQ(info.config.vsock->cid, 9);
  EXPECT_EQ(info.config.watchdog, true);
  EXPECT_EQ(VmConfigFromJson(ToJson(info.config).dump()), info.config);
}

TEST_F(RealVmm, AColdAddedDiskIsPartOfTheConfig) {
  api_->Create({.payload = PayloadConfig{.kernel = "/boot/none"}, .console = ConsoleConfig{}}, Soon());
  EXPECT_FALSE(api_->AddDisk({.pci = {.id = "data"}, .path = "/none", .image_type = ImageType::kQcow2}, Soon()));
  EXPECT_EQ(api_->Info(Soon()).config.disks.at(0).pci.id, "data");
  api_->Delete(Soon());
  EXPECT_NO_THROW(api_->Delete(Soon())) << "deleting nothing is allowed";
}

TEST_F(RealVmm, RefusesWithAChainOfReasons) {
  try {
    api_->Info(Soon());
    ADD_FAILURE() << "no error";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 404);
    EXPECT_GE(error.chain().size(), 2);
    EXPECT_TRUE(error.Says("VM is not created")) << error.what();
  }
  EXPECT_THROW(api_->Pause(Soon()), ApiError);
  EXPECT_THROW(api_->ReadCounters(Soon()), ApiError);
  EXPECT_EQ(api_->PingVmm(Soon()).pid, vmm_->pid()) << "a refusal leaves the connection and the VMM as they were";
}

TEST_F(RealVmm, AFailedBootLeavesItReadyForTheNextTry) {
  api_->Create({.payload = PayloadConfig{}, .console = ConsoleConfig{}}, Soon());
  std::string error = ErrorOf<ApiError>([&] { api_->Boot(Soon()); });
  EXPECT_THAT(error, HasSubstr("refused 'vm.boot'"));
  api_->Delete(Soon());
  EXPECT_NO_THROW(api_->Create({.payload = PayloadConfig{.kernel = "/k"}, .console = ConsoleConfig{}}, Soon()));
}

TEST_F(RealVmm, ASecondVmIsRefused) {
  VmConfig config{.payload = PayloadConfig{.kernel = "/boot/none"}, .console = ConsoleConfig{}};
  api_->Create(config, Soon());
  EXPECT_THAT(ErrorOf<ApiError>([&] { api_->Create(config, Soon()); }), HasSubstr("already created"));
}

TEST_F(RealVmm, TakesDescriptorsWithAddNetBeforeTheBoot) {
  api_->Create({.payload = PayloadConfig{.kernel = "/boot/none"}, .console = ConsoleConfig{}}, Soon());
  auto [ours, theirs] = internal::SocketPair();
  std::array descriptors = {theirs.get()};
  EXPECT_FALSE(api_->AddNet({.pci = {.id = "lan"}, .num_queues = 2}, Soon(), descriptors));
  theirs.Reset();
  // The VMM holds its own copy: the other end is not closed.
  char byte = 0;
  EXPECT_LT(recv(ours.get(), &byte, 1, MSG_DONTWAIT), 0);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(api_->Info(Soon()).config.net.at(0).pci.id, "lan");
}

TEST_F(RealVmm, AnEleventhConnectionIsServedWhenAPlaceIsFree) {
  // Ten connections, each with one ping done, so that the server has them.
  std::vector<std::unique_ptr<Api>> others;
  for (int i = 0; i < 10; ++i) {
    others.push_back(std::make_unique<Api>(Api::Options{.socket = socket_path(), .pidfd = vmm_->pidfd()}));
    others.back()->PingVmm(Soon());
  }
  EXPECT_THAT(ErrorOf<ApiError>([&] { api_->PingVmm(Deadline::After(std::chrono::milliseconds(100))); }),
              HasSubstr("(503)"));
  others.pop_back();
  EXPECT_EQ(api_->PingVmm(Soon()).pid, vmm_->pid());
}

TEST_F(RealVmm, ARequestThatIsTooLongForItIsNeverSent) {
  VmConfig config{.payload = PayloadConfig{.cmdline = std::string(60'000, 'x')}};
  EXPECT_THROW(api_->Create(config, Soon()), BadSpec);
  EXPECT_THROW(api_->Info(Soon()), ApiError) << "there is no VM";
}

TEST_F(RealVmm, KilledInACallIsSeenAtOnce) {
  // It waits for a peer, and hears nothing else meanwhile.
  auto killer = std::async(std::launch::async, [&] { vmm_->Signal(SIGKILL); });
  EXPECT_THROW(api_->AcceptMigration({.receiver_url = "unix:" + (directory_ / "m").string()},
                                     Deadline::After(Scaled(seconds(60)))),
               VmmDied);
  killer.get();
  EXPECT_EQ(vmm_->Wait(Soon()).signal, SIGKILL);
}

}  // namespace
}  // namespace mayfly::ch
