#include <mayfly/deadline.h>

#include <gtest/gtest.h>
#include <mayfly/errors.h>

#include <cstdlib>

namespace mayfly {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Deadline, NeverPassesForDurationsBeyondTheClock) {
  EXPECT_FALSE(Deadline::After(Duration::max()).Passed());
  EXPECT_EQ(Deadline::After(Duration::max()).RemainingForPoll(), -1);
  EXPECT_TRUE(Deadline::After(seconds(-1)).Passed());
  EXPECT_EQ(Deadline::After(seconds(-1)).RemainingForPoll(), 0);
}

TEST(Deadline, RoundsPollTimeoutsUpSoThatWaitsDoNotSpin) {
  EXPECT_GE(Deadline::After(nanoseconds(400000)).RemainingForPoll(), 0);
  EXPECT_EQ(Deadline::After(hours(24 * 365)).RemainingForPoll(), 2147483647);
}

TEST(Durations, AreWrittenForPeople) {
  EXPECT_EQ(ForPeople(seconds(1)), "1 s");
  EXPECT_EQ(ForPeople(milliseconds(1400)), "1.4 s");
  EXPECT_EQ(ForPeople(milliseconds(12)), "12 ms");
  EXPECT_EQ(ForPeople(nanoseconds(700000)), "0.7 ms");
  EXPECT_EQ(ForPeople(seconds(125)), "2 min 5 s");
}

TEST(TimeoutFactor, StretchesAndRefusesWhatIsNoFactor) {
  setenv("MAYFLY_TIMEOUT_FACTOR", "2.5", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(Scaled(seconds(2)), seconds(5));
  for (const char* wrong : {"0", "-1", "fast", "1x", "1e9"}) {
    setenv("MAYFLY_TIMEOUT_FACTOR", wrong, 1);  // NOLINT(concurrency-mt-unsafe): one thread
    EXPECT_THROW(Scaled(seconds(1)), BadSpec) << wrong;
  }
  unsetenv("MAYFLY_TIMEOUT_FACTOR");  // NOLINT(concurrency-mt-unsafe): one thread
}

}  // namespace
}  // namespace mayfly
