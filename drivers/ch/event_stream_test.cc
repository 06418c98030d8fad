#include "drivers/ch/event_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace mayfly::ch {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// As v53.0 writes them.
constexpr std::string_view kStarting = R"({
  "timestamp": {
    "secs": 0,
    "nanos": 39873
  },
  "source": "vmm",
  "event": "starting",
  "properties": null
}

)";
constexpr std::string_view kRemoved = R"({
  "timestamp": {
    "secs": 12,
    "nanos": 5
  },
  "source": "vm",
  "event": "device-removed",
  "properties": {
    "bdf": "0000:00:06.0",
    "id": "data"
  }
}

)";

std::vector<std::string> Names(const std::vector<VmmEvent>& events) {
  std::vector<std::string> names;
  for (const VmmEvent& event : events) names.push_back(event.source + "/" + event.name);
  return names;
}

TEST(EventStream, ReadsAnEventOverSeveralLines) {
  EventStream stream;
  EXPECT_THAT(stream.Feed(kRemoved), ElementsAre(VmmEvent{.at = seconds(12) + nanoseconds(5),
                                                          .source = "vm",
                                                          .name = "device-removed",
                                                          .properties = {{"bdf", "0000:00:06.0"}, {"id", "data"}}}));
  EXPECT_EQ(stream.skipped(), 0);
}

TEST(EventStream, IsTheSameHoweverTheBytesCome) {
  std::string all = std::string(kStarting) + std::string(kRemoved) + std::string(kStarting);
  for (size_t size = 1; size <= all.size(); ++size) {
    EventStream stream;
    std::vector<VmmEvent> events;
    for (size_t at = 0; at < all.size(); at += size) {
      for (VmmEvent& event : stream.Feed(std::string_view(all).substr(at, size))) events.push_back(std::move(event));
    }
    EXPECT_THAT(Names(events), ElementsAre("vmm/starting", "vm/device-removed", "vmm/starting")) << size;
  }
}

TEST(EventStream, WaitsForTheBlankLine) {
  EventStream stream;
  EXPECT_THAT(stream.Feed(kStarting.substr(0, kStarting.size() - 1)), IsEmpty());
  EXPECT_THAT(Names(stream.Feed("\n")), ElementsAre("vmm/starting"));
}

TEST(EventStream, SkipsAnEventThatWasCutShort) {
  EventStream stream;
  std::string cut = std::string(kRemoved.substr(0, 60)) + "\n\n";
  EXPECT_THAT(Names(stream.Feed(cut + std::string(kStarting))), ElementsAre("vmm/starting"));
  EXPECT_EQ(stream.skipped(), 1);
}

TEST(EventStream, SkipsWhatHasNoNameOrNoTime) {
  for (const char* piece : {"7", "[]", "{}", R"({"source": "vm"})", R"({"source": 1, "event": "x"})",
                            R"({"source": "vm", "event": "x", "timestamp": {"secs": -1, "nanos": 0}})",
                            R"({"source": "vm", "event": "x", "timestamp": {"secs": 1, "nanos": 1000000000}})"}) {
    EventStream stream;
    EXPECT_THAT(stream.Feed(std::string(piece) + "\n\n"), IsEmpty()) << piece;
    EXPECT_EQ(stream.skipped(), 1) << piece;
  }
}

TEST(EventStream, BlankLinesBetweenEventsAreNothing) {
  EventStream stream;
  EXPECT_THAT(Names(stream.Feed("\n\n\n\n \n\n" + std::string(kStarting))), ElementsAre("vmm/starting"));
  EXPECT_EQ(stream.skipped(), 0);
}

TEST(EventStream, AnEndlessPieceIsDroppedAndWhatFollowsIsRead) {
  EventStream stream;
  std::string noise(10 * EventStream::kMaxEvent, 'x');
  EXPECT_THAT(stream.Feed(noise), IsEmpty());
  EXPECT_THAT(Names(stream.Feed("x\n\n" + std::string(kStarting))), ElementsAre("vmm/starting"));
  EXPECT_EQ(stream.skipped(), 1);
}

TEST(EventStream, PropertiesThatAreNoTextAreKeptAsJson) {
  auto event = ParseEvent(R"({"source": "vm", "event": "migration-memory-iteration", "properties": {"id": 3}})");
  ASSERT_TRUE(event);
  EXPECT_EQ(event->properties["id"], "3");
}

}  // namespace
}  // namespace mayfly::ch
