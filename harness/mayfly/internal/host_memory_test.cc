#include <mayfly/internal/host_memory.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace mayfly::internal {
namespace {

using literals::operator""_GiB;
using literals::operator""_KiB;
using literals::operator""_MiB;

constexpr std::string_view kMeminfo =
    "MemTotal:       16777216 kB\nMemFree:          100000 kB\nMemAvailable:    8388608 kB\n";

// A directory with files in the places where Linux has them.
class HostMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "mayfly_host_memory_XXXXXX";
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    root_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::filesystem::path& file, std::string_view content) {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << content;
  }

  std::filesystem::path root_;
};

TEST_F(HostMemoryTest, IsWhatTheHostHasWithoutLimits) {
  Write("proc/meminfo", kMeminfo);
  Write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(ReadHostMemory(root_).total, 16_GiB);
  EXPECT_EQ(ReadHostMemory(root_).available, 8_GiB);
}

TEST_F(HostMemoryTest, ObeysTheTightestGroupOnTheWayUp) {
  Write("proc/meminfo", kMeminfo);
  Write("proc/self/cgroup", "0::/ci/job/step\n");
  Write("sys/fs/cgroup/ci/memory.max", "4294967296\n");
  Write("sys/fs/cgroup/ci/memory.current", "3221225472\n");
  Write("sys/fs/cgroup/ci/memory.stat", "anon 1\ninactive_file 1073741824\n");
  Write("sys/fs/cgroup/ci/job/memory.max", "6442450944\n");
  Write("sys/fs/cgroup/ci/job/step/memory.max", "max\n");
  EXPECT_EQ(ReadHostMemory(root_).total, 4_GiB);
  EXPECT_EQ(ReadHostMemory(root_).available, 2_GiB);  // 4 GiB less 3 GiB used, of which 1 GiB is page cache
}

TEST_F(HostMemoryTest, ObeysLegacyGroups) {
  Write("proc/meminfo", kMeminfo);
  Write("proc/self/cgroup", "7:cpuset:/other\n4:cpu,memory:/docker/x\n");
  Write("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1073741824\n");
  Write("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "268435456\n");
  EXPECT_EQ(ReadHostMemory(root_).total, 1_GiB);
  EXPECT_EQ(ReadHostMemory(root_).available, 768_MiB);
}

TEST_F(HostMemoryTest, SetsNoLimitWhereNothingCanBeRead) {
  EXPECT_EQ(ReadHostMemory(root_).total, Bytes(UINT64_MAX));
  EXPECT_EQ(ReadHostMemory(root_).available, Bytes(UINT64_MAX));
}

TEST(HostMemory, OfThisHostIsPlausible) {
  HostMemory memory = ReadHostMemory();
  EXPECT_GE(memory.total, 64_MiB);
  EXPECT_GT(memory.available, 64_KiB);
  EXPECT_LE(memory.available, memory.total);
}

}  // namespace
}  // namespace mayfly::internal
