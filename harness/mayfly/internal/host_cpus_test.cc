#include <mayfly/internal/host_cpus.h>

#include <gtest/gtest.h>
#include <mayfly/internal/test_host.h>

#include <thread>

namespace mayfly::internal {
namespace {

constexpr const char* kStatus = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-5,8,10-10\nMems_allowed:\t1\n";

TEST(HostCpus, AreThoseThatTheProcessMayRunOn) {
  TestHost host;
  host.Write("proc/self/status", kStatus);
  EXPECT_EQ(ReadHostCpus(host.root()), 8);
}

TEST(HostCpus, ObeyTheTightestQuotaOnTheWayUp) {
  TestHost host;
  host.Write("proc/self/status", kStatus);
  host.Write("proc/self/cgroup", "0::/ci/job\n");
  host.Write("sys/fs/cgroup/ci/cpu.max", "150000 100000\n");
  host.Write("sys/fs/cgroup/ci/job/cpu.max", "max 100000\n");
  EXPECT_EQ(ReadHostCpus(host.root()), 1.5);
}

TEST(HostCpus, ObeyLegacyQuotas) {
  TestHost host;
  host.Write("proc/self/status", kStatus);
  host.Write("proc/self/cgroup", "3:cpu,cpuacct:/docker/x\n");
  host.Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  host.Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadHostCpus(host.root()), 8);
  host.Write("sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "300000\n");
  host.Write("sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadHostCpus(host.root()), 3);
}

TEST(HostCpus, AreAllWhereNothingCanBeRead) {
  TestHost host;
  EXPECT_EQ(ReadHostCpus(host.root()), std::thread::hardware_concurrency());
}

}  // namespace
}  // namespace mayfly::internal
