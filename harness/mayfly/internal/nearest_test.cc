#include <gtest/gtest.h>
#include <mayfly/internal/nearest.h>

#include <array>
#include <string>

namespace mayfly::internal {
namespace {

constexpr std::array<std::string_view, 4> kWords = {"cpus", "memory", "max_memory", "tiny-disk"};

TEST(Nearest, FindsAWordDespiteOneSlip) {
  for (std::string_view slip : {"memroy", "memor", "memoryy", "mamory", "Memory", "MEMORY"}) {
    EXPECT_EQ(Nearest(slip, kWords), "memory") << slip;
  }
  EXPECT_EQ(Nearest("cpu", kWords), "cpus");
  EXPECT_EQ(Nearest("tinydisk", kWords), "tiny-disk");
  EXPECT_EQ(Nearest("maxmemory", kWords), "max_memory");
}

TEST(Nearest, SaysNothingForAnUnrelatedWord) {
  for (std::string_view word : {"", "x", "kernel", "disk"}) EXPECT_EQ(Nearest(word, kWords), std::nullopt) << word;
  EXPECT_EQ(Nearest(std::string(65, 'm'), kWords), std::nullopt);
  EXPECT_EQ(Nearest("cpus", {}), std::nullopt);
}

TEST(Nearest, TakesTheFirstOfEquallyNearWords) {
  constexpr std::array<std::string_view, 2> kTwins = {"disk1", "disk2"};
  EXPECT_EQ(Nearest("disk3", kTwins), "disk1");
}

TEST(DidYouMean, AsksOrListsWhatIsKnown) {
  EXPECT_EQ(DidYouMean("cpsu", kWords), "; did you mean \"cpus\"?");
  EXPECT_EQ(DidYouMean("kernel", kWords), "; known: cpus, memory, max_memory, tiny-disk");
  EXPECT_EQ(DidYouMean("kernel", {}), "");
}

}  // namespace
}  // namespace mayfly::internal
