#include "drivers/vz/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>
#include <sys/socket.h>

#include <filesystem>
#include <string>

namespace mayfly::vz {
namespace {

using internal::PreparedDisk;
using testing::HasSubstr;

class VzRequest : public testing::Test {
 protected:
  std::string Refusal(const MachineSpec& spec) {
    try {
      std::vector<PreparedDisk> disks = PrepareRawDisks(spec, sandbox_);
      MakeCreateRequest(spec, disks, sandbox_, {});
    } catch (const BadSpec& error) {
      return error.what();
    }
    return "";
  }
  std::string ImageOf(size_t size) {
    std::string path = directory_ / "image";
    internal::WriteWholeFile(path, std::string(size, 'b'));
    return path;
  }

  internal::TestDirectory directory_;
  Sandbox sandbox_ = Sandbox::Create("vz");
};

TEST_F(VzRequest, ConsoleAndAgentAreWhatTheGuestIsToldOf) {
  CreateRequest request = MakeCreateRequest({.name = "kv", .boot = {.command_line = "quiet"}}, {}, sandbox_, {7, 8});
  EXPECT_EQ(request.body["command_line"], "console=hvc0 hostname=kv quiet");
  EXPECT_EQ(request.body["console"], sandbox_.Path("console.log").string());
  EXPECT_EQ(request.body["agent"]["port"], "org.mayfly.agent");
  EXPECT_EQ(request.body["machine_identifier"].get_binary().size(), 2U);
  ASSERT_EQ(request.descriptors.size(), 1U);
  ASSERT_EQ(send(request.agent.get(), "x", 1, MSG_NOSIGNAL), 1);
  char byte = 0;
  EXPECT_EQ(recv(request.descriptors[0].get(), &byte, 1, 0), 1) << "the two ends are one channel";
}

TEST_F(VzRequest, AClonesWritesAreNotSynchronizedAndADiskThatStaysIs) {
  std::string image = ImageOf(1024);
  MachineSpec spec{.disks = {{.id = "clone", .path = image},
                             {.id = "own", .path = image, .clone = false, .cache = DiskCache::kWriteback},
                             {.id = "new", .size = Bytes(1 << 20), .cache = DiskCache::kNone}}};
  std::vector<PreparedDisk> disks = PrepareRawDisks(spec, sandbox_);
  CreateRequest request = MakeCreateRequest(spec, disks, sandbox_, {});
  ASSERT_EQ(request.body["disks"].size(), 3U);
  EXPECT_EQ(request.body["disks"][0]["synchronization"], "none");
  EXPECT_NE(request.body["disks"][0]["path"], image);
  EXPECT_EQ(internal::ReadWholeFile(disks[0].path, 4096), std::string(1024, 'b'));
  EXPECT_EQ(request.body["disks"][1]["synchronization"], "fsync");
  EXPECT_EQ(request.body["disks"][1]["path"], image);
  EXPECT_EQ(request.body["disks"][2]["direct"], true);
}

TEST_F(VzRequest, ACloneEndsAtTheEndOfASectorAndADiskOfTheUsersMust) {
  std::string image = ImageOf(1000);
  std::vector<PreparedDisk> disks = PrepareRawDisks({.disks = {{.id = "clone", .path = image}}}, sandbox_);
  EXPECT_EQ(std::filesystem::file_size(disks[0].path), 1024U);
  EXPECT_EQ(std::filesystem::file_size(image), 1000U);
  EXPECT_THAT(Refusal({.disks = {{.id = "own", .path = image, .clone = false}}}), HasSubstr("multiples of 512"));
}

TEST_F(VzRequest, AQcow2ImageIsRefusedWithTheCommandThatMakesItRaw) {
  EXPECT_THAT(Refusal({.disks = {{.id = "root", .path = ImageOf(512), .format = DiskFormat::kQcow2}}}),
              AllOf(HasSubstr("raw images only"), HasSubstr("qemu-img convert -O raw")));
}

TEST_F(VzRequest, AnMtuIsTakenWhereTheFrameworkHasOne) {
  EXPECT_THAT(Refusal({.nics = {{.id = "a", .mac = "02:00:00:00:00:01", .mtu = 9000}}}), HasSubstr("kind \"socket\""));
  EXPECT_THAT(Refusal({.nics = {{.id = "a", .kind = NicKind::kSocket, .source = "/s", .mtu = 1400}}}),
              HasSubstr("1500 to 65535"));
}

TEST_F(VzRequest, APathThatIsTooLongForASocketIsRefused) {
  Nic nic{.id = "a", .kind = NicKind::kSocket, .source = "/" + std::string(120, 's')};
  EXPECT_THAT(Refusal({.nics = {nic}}), HasSubstr("too long for a unix socket"));
}

}  // namespace
}  // namespace mayfly::vz
