// Hosts on which mayfly cannot work: what it says, and that it leaves nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/small_file_system.h>

#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using internal::SmallFileSystem;
using testing::AllOf;
using testing::HasSubstr;

TEST(HostFault, ACacheOnAReadOnlyFileSystemIsNamed) {
  SmallFileSystem cache;
  if (!cache.mounted()) GTEST_SKIP() << SmallFileSystem::kWhyNot;
  cache.MakeReadOnly();
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"image", "build", "tiny"}, {"run", "--", "true"}}) {
    Outcome outcome = RunMayfly(words, {.environment = {{"MAYFLY_CACHE_DIR", cache.path()}}});
    EXPECT_NE(outcome.status.code, 0);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(cache.path().string()), HasSubstr("Read-only file system"),
                                   HasSubstr("MAYFLY_CACHE_DIR")));
  }
}

}  // namespace
}  // namespace mayfly::cli
