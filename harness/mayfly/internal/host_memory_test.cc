#include <mayfly/internal/host_memory.h>

#include <gtest/gtest.h>
#include <mayfly/internal/test_host.h>

#include <string_view>

namespace mayfly::internal {
namespace {

using literals::operator""_GiB;
using literals::operator""_KiB;
using literals::operator""_MiB;

constexpr std::string_view kMeminfo =
    "MemTotal:       16777216 kB\nMemFree:          100000 kB\nMemAvailable:    8388608 kB\n";

TEST(HostMemory, IsWhatTheHostHasWithoutLimits) {
  TestHost host;
  host.Write("proc/meminfo", kMeminfo);
  host.Write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(ReadHostMemory(host.root()).total, 16_GiB);
  EXPECT_EQ(ReadHostMemory(host.root()).available, 8_GiB);
}

TEST(HostMemory, ObeysTheTightestGroupOnTheWayUp) {
  TestHost host;
  host.Write("proc/meminfo", kMeminfo);
  host.Write("proc/self/cgroup", "0::/ci/job/step\n");
  host.Write("sys/fs/cgroup/ci/memory.max", "4294967296\n");
  host.Write("sys/fs/cgroup/ci/memory.current", "3221225472\n");
  host.Write("sys/fs/cgroup/ci/memory.stat", "anon 1\ninactive_file 1073741824\n");
  host.Write("sys/fs/cgroup/ci/job/memory.max", "6442450944\n");
  host.Write("sys/fs/cgroup/ci/job/step/memory.max", "max\n");
  EXPECT_EQ(ReadHostMemory(host.root()).total, 4_GiB);
  // 4 GiB less 3 GiB used, of which 1 GiB is page cache
  EXPECT_EQ(ReadHostMemory(host.root()).available, 2_GiB);
}

TEST(HostMemory, ObeysLegacyGroups) {
  TestHost host;
  host.Write("proc/meminfo", kMeminfo);
  host.Write("proc/self/cgroup", "7:cpuset:/other\n4:cpu,memory:/docker/x\n");
  host.Write("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1073741824\n");
  host.Write("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "268435456\n");
  EXPECT_EQ(ReadHostMemory(host.root()).total, 1_GiB);
  EXPECT_EQ(ReadHostMemory(host.root()).available, 768_MiB);
}

TEST(HostMemory, SetsNoLimitWhereNothingCanBeRead) {
  TestHost host;
  EXPECT_EQ(ReadHostMemory(host.root()).total, Bytes(UINT64_MAX));
  EXPECT_EQ(ReadHostMemory(host.root()).available, Bytes(UINT64_MAX));
}

TEST(HostMemory, OfThisHostIsPlausible) {
  HostMemory memory = ReadHostMemory();
  EXPECT_GE(memory.total, 64_MiB);
  EXPECT_GT(memory.available, 64_KiB);
  EXPECT_LE(memory.available, memory.total);
}

}  // namespace
}  // namespace mayfly::internal
