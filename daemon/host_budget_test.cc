#include "daemon/host_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/test_host.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace mayfly::internal {
namespace {

using literals::operator""_GiB;
using literals::operator""_MiB;
using testing::HasSubstr;

class HostBudgetTest : public testing::Test {
 protected:
  void SetMemory(Bytes total, Bytes available) {
    host_.Write("proc/meminfo", "MemTotal: " + std::to_string(total.count() >> 10) +
                                    " kB\nMemAvailable: " + std::to_string(available.count() >> 10) + " kB\n");
  }
  HostBudget Budget(HostBudget::Options options = {}) {
    options.root = host_.root();
    return HostBudget(options);
  }
  TestHost host_;
};

TEST_F(HostBudgetTest, KeepsASixteenthInReserve) {
  SetMemory(16_GiB, 8_GiB);
  EXPECT_EQ(Budget().whole(), 15_GiB);
  EXPECT_EQ(Budget().available(), 7_GiB);
}

TEST_F(HostBudgetTest, KeepsNeitherTooLittleNorTooMuch) {
  SetMemory(1_GiB, 512_MiB);
  EXPECT_EQ(Budget().whole(), 768_MiB);
  SetMemory(1024_GiB, 512_GiB);
  EXPECT_EQ(Budget().whole(), 1022_GiB);
  SetMemory(512_MiB, 100_MiB);
  EXPECT_EQ(Budget().whole(), 384_MiB);
  EXPECT_EQ(Budget().available(), Bytes());
}

TEST_F(HostBudgetTest, ObeysTheControlGroup) {
  SetMemory(16_GiB, 8_GiB);
  host_.Write("proc/self/cgroup", "0::/ci\n");
  host_.Write("sys/fs/cgroup/ci/memory.max", "4294967296\n");
  host_.Write("sys/fs/cgroup/ci/memory.current", "1073741824\n");
  EXPECT_EQ(Budget().whole(), 4_GiB - 256_MiB);
  EXPECT_EQ(Budget().available(), 3_GiB - 256_MiB);
}

TEST_F(HostBudgetTest, OwnMemoryReplacesTheHosts) {
  SetMemory(1_GiB, 100_MiB);
  HostBudget budget = Budget({.memory = 64_GiB});
  EXPECT_EQ(budget.whole(), 64_GiB);
  EXPECT_GT(budget.available(), 64_GiB);
}

TEST_F(HostBudgetTest, SharesACpuAmongEight) {
  host_.Write("proc/self/status", "Cpus_allowed_list:\t0-1\n");
  EXPECT_EQ(Budget().cpus(), 16);
  EXPECT_EQ(Budget({.cpus = 5}).cpus(), 5);
}

TEST_F(HostBudgetTest, CountsWhatAProcessHasForItself) {
  host_.Write("proc/42/statm", "1000 300 100 5 0 200 0\n");
  EXPECT_EQ(Budget().PrivateMemoryOf(42), Bytes(static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) * 200));
  EXPECT_EQ(Budget().PrivateMemoryOf(43), Bytes()) << "it has ended";
}

TEST(HostBudgetEnvironment, IsReadStrictly) {
  struct Row {
    const char* name;
    const char* value;
    const char* error;  // empty: accepted
  };
  constexpr Row kRows[] = {
      {"MAYFLY_POOL_MEMORY", "8GiB", ""},
      {"MAYFLY_POOL_MEMORY", "", ""},
      {"MAYFLY_POOL_MEMORY", "much", "MAYFLY_POOL_MEMORY: \"much\" is no size; allowed: a number above 0"},
      {"MAYFLY_POOL_MEMORY", "0", "MAYFLY_POOL_MEMORY: \"0\" is no size"},
      {"MAYFLY_POOL_CPUS", "64", ""},
      {"MAYFLY_POOL_CPUS", "0", "MAYFLY_POOL_CPUS: \"0\" is no count; allowed: a whole number above 0"},
      {"MAYFLY_POOL_CPUS", "2.5", "MAYFLY_POOL_CPUS: \"2.5\" is no count"},
      {"MAYFLY_POOL_CPUS", "-1", "MAYFLY_POOL_CPUS: \"-1\" is no count"},
  };
  for (const Row& row : kRows) {
    setenv(row.name, row.value, 1);  // NOLINT(concurrency-mt-unsafe): one thread
    std::string error;
    try {
      HostBudget::FromEnvironment();
    } catch (const BadSpec& refusal) {
      error = refusal.what();
    }
    unsetenv(row.name);  // NOLINT(concurrency-mt-unsafe): one thread
    EXPECT_THAT(error, HasSubstr(row.error)) << row.name << "=" << row.value;
    EXPECT_EQ(error.empty(), std::string(row.error).empty()) << row.name << "=" << row.value << ": " << error;
  }
}

}  // namespace
}  // namespace mayfly::internal
