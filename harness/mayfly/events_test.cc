#include <mayfly/events.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace mayfly {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Timeline, WakesAWaitWhenTheEventComes) {
  Timeline timeline;
  timeline.Add("qemu", "RESET");
  std::thread later([&] { timeline.Add("qemu", "SHUTDOWN", "guest-shutdown"); });
  auto event = timeline.WaitFor([](const Event& e) { return e.name == "SHUTDOWN"; }, Deadline::After(seconds(20)));
  later.join();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->detail, "guest-shutdown");
}

TEST(Timeline, LooksOnlyAtEventsFromThePositionGiven) {
  Timeline timeline;
  timeline.Add("qemu", "RESET");
  auto any = [](const Event&) { return true; };
  EXPECT_TRUE(timeline.WaitFor(any, Deadline::After(Duration::zero())));
  EXPECT_FALSE(timeline.WaitFor(any, Deadline::After(milliseconds(5)), timeline.size()));
}

TEST(Timeline, SubscribersHearLaterEventsUntilTheyLetGo) {
  Timeline timeline;
  std::vector<std::string> heard;
  timeline.Add("a", "before");
  auto subscription = timeline.Subscribe([&](const Event& event) { heard.push_back(event.name); });
  timeline.Add("a", "during");
  subscription.reset();
  timeline.Add("a", "after");
  EXPECT_THAT(heard, testing::ElementsAre("during"));
}

TEST(Timeline, JsonSurvivesBytesThatAreNoText) {
  Timeline timeline;
  timeline.Add("guest", "line", "\xff\xfe");
  EXPECT_THAT(timeline.ToJson(), testing::HasSubstr("\"source\": \"guest\""));
}

}  // namespace
}  // namespace mayfly
