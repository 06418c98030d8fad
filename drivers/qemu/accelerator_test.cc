#include "drivers/qemu/accelerator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace mayfly::internal {
namespace {

// Templates are found under a name that this number is a part of.
TEST(HostTscKhz, IsTheSameInAllProcessesWhoeverMeasuresFirst) {
  TestDirectory directory;
  std::vector<std::unique_ptr<ChildProcess>> processes;
  for (int i = 0; i < 12; ++i) {
    processes.push_back(std::make_unique<ChildProcess>(ChildOptions{
        .argv = {"/proc/self/exe", "--gtest_filter=TscOwner.WritesTheFrequency"},
        .environment = {{"TSC_OWNER", directory / std::to_string(i)}, {"MAYFLY_CACHE_DIR", (directory / "cache")}}}));
  }
  std::set<std::string> frequencies;
  for (int i = 0; i < 12; ++i) {
    EXPECT_TRUE(processes[static_cast<size_t>(i)]->Wait(Deadline::After(Scaled(std::chrono::seconds(20)))).ok());
    frequencies.insert(ReadWholeFile(directory / std::to_string(i), 100));
  }
  EXPECT_THAT(frequencies, testing::SizeIs(1));
}

TEST(TscOwner, WritesTheFrequency) {
  const char* file = std::getenv("TSC_OWNER");  // NOLINT(concurrency-mt-unsafe): one thread
  if (file == nullptr) GTEST_SKIP() << "run by HostTscKhz in a process of its own";
  WriteWholeFile(file, std::to_string(HostTscKhz()));
}

}  // namespace
}  // namespace mayfly::internal
