#include <mayfly/internal/agent_frame.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/internal/agent_message.h>

namespace mayfly::internal::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class AgentFrames : public testing::Test {
 protected:
  // Gives the bytes to the reader, `step` at a time; "header|body" of each frame that it finds.
  std::vector<std::string> Read(std::string_view bytes, size_t step = SIZE_MAX) {
    std::vector<std::string> found;
    while (!bytes.empty()) {
      std::span<char> space = reader.Space();
      size_t count = std::min({step, bytes.size(), space.size()});
      bytes.copy(space.data(), count);
      reader.Filled(count);
      bytes.remove_prefix(count);
      while (std::optional<Frame> frame = reader.Next())
        found.push_back((frame->greeting ? "hi " : "") + std::string(frame->header) + "|" + std::string(frame->body));
    }
    return found;
  }

  FrameReader reader;
};

TEST_F(AgentFrames, AreFoundHoweverTheBytesAreCut) {
  std::string bytes = MakeFrame("one", "1") + MakeFrame("two") + MakeFrame("three", std::string(300, '3'));
  for (size_t step : {size_t{1}, size_t{2}, size_t{7}, size_t{16}, bytes.size()})
    EXPECT_THAT(Read(bytes, step), ElementsAre("one|1", "two|", "three|" + std::string(300, '3'))) << step;
  EXPECT_EQ(reader.skipped(), 0u);
}

TEST_F(AgentFrames, OfTheLargestSizeFit) {
  std::string header(kMaxHeader, 'h'), body(kMaxBody, 'b');
  std::string whole = fmt::format("{}|{}", header, body);
  for (int round = 0; round < 3; ++round) EXPECT_THAT(Read(MakeFrame(header, body), 4096), ElementsAre(whole));
}

TEST_F(AgentFrames, BehindGarbageAreFound) {
  EXPECT_THAT(Read("login: MFL MFLYM" + MakeFrame("one") + "\xff\n" + MakeFrame("two", "body")),
              ElementsAre("one|", "two|body"));
  EXPECT_GT(reader.skipped(), 10u);
}

TEST_F(AgentFrames, WithAChangedByteAreSkippedAndTheNextOneIsFound) {
  std::string good = MakeFrame("header", "");
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    FrameReader fresh;
    std::swap(reader, fresh);
    // A length that was changed makes the reader wait for so much; then it looks for the next frame in what came.
    std::vector<std::string> found = Read(bad + MakeFrame("next") + std::string(kMaxFrame, ' '));
    EXPECT_THAT(found, ElementsAre("next|")) << "byte " << i;
  }
}

TEST_F(AgentFrames, OfImpossibleSizesAreNotWaitedFor) {
  std::string frame = MakeFrame("x", "");
  std::string large_header = frame, large_body = frame, no_header = frame;
  large_header.replace(4, 4, std::string("\xff\xff\xff\x7f", 4));
  large_body.replace(8, 4, std::string("\xff\xff\xff\xff", 4));
  no_header.replace(4, 4, std::string(4, '\0'));
  EXPECT_THAT(Read(large_header + large_body + no_header + frame), ElementsAre("x|"));
}

TEST_F(AgentFrames, AGreetingEndsAHalfFrameThatADeadPeerLeft) {
  std::string half = MakeFrame("put", std::string(kMaxBody, 'b')).substr(0, 5000);
  std::vector<std::string> found = Read(half + MakeGreeting("hello"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].starts_with("hi hello|"));
  EXPECT_THAT(Read(MakeFrame("after")), ElementsAre("after|"));
}

TEST_F(AgentFrames, AGreetingWithABodyEndsAHalfFrameToo) {
  std::string half = MakeFrame("put", std::string(kMaxBody, 'b')).substr(0, 5000);
  std::vector<std::string> found = Read(half + MakeGreeting("hello", "random"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].starts_with("hi hello|random"));
  EXPECT_EQ(found[0].size(), std::string("hi hello|random").size() + kGreetingTail);
}

TEST_F(AgentFrames, AGreetingInTheBodyOfAFrameIsPartOfIt) {
  std::string body = "before" + MakeGreeting("hello") + "behind";
  EXPECT_THAT(Read(MakeFrame("data", body)), ElementsAre("data|" + body));
}

TEST_F(AgentFrames, AfterAResetNothingOfBeforeIsLeft) {
  EXPECT_THAT(Read(MakeFrame("one", "body").substr(0, 20)), IsEmpty());
  reader.Reset();
  EXPECT_THAT(Read(MakeFrame("two")), ElementsAre("two|"));
}

TEST_F(AgentFrames, RandomBytesAreSkippedInFixedMemory) {
  std::mt19937_64 random(7);
  std::string noise(8 << 20, '\0');
  for (char& byte : noise) byte = "MFLYHI\0\1\xff"[random() % 9];
  EXPECT_THAT(Read(noise, 60'000), IsEmpty());
  EXPECT_THAT(Read(std::string(kMaxFrame, ' ') + MakeFrame("alive")), ElementsAre("alive|"));
}

}  // namespace
}  // namespace mayfly::internal::agent
