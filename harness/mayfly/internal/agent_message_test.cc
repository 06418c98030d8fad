#include <mayfly/internal/agent_message.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mayfly::internal::agent {
namespace {

using nlohmann::json;

std::string Cbor(const json& value) {
  std::vector<uint8_t> bytes = json::to_cbor(value);
  return {bytes.begin(), bytes.end()};
}

TEST(AgentMessage, IsReadByAnyCborLibrary) {
  std::string text(70'000, 'x');
  std::string bytes = MessageWriter("exec")
                          .Set("small", 23)
                          .Set("byte", 255)
                          .Set("large", std::numeric_limits<uint64_t>::max())
                          .Set("least", std::numeric_limits<int64_t>::min())
                          .Set("yes", true)
                          .Set("no", false)
                          .Set("text", text)
                          .Finish();
  EXPECT_EQ(json::from_cbor(bytes), json({{"t", "exec"},
                                          {"small", 23},
                                          {"byte", 255},
                                          {"large", std::numeric_limits<uint64_t>::max()},
                                          {"least", std::numeric_limits<int64_t>::min()},
                                          {"yes", true},
                                          {"no", false},
                                          {"text", text}}));
}

TEST(AgentMessage, ReadsWhatAnyCborLibraryWrites) {
  std::string bytes = Cbor({{"t", "credit"}, {"n", 65536}, {"below", -7}, {"flag", true}, {"empty", ""}});
  std::optional<Message> message = Message::Parse(bytes);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type(), "credit");
  EXPECT_EQ(message->Number("n"), 65536u);
  EXPECT_EQ(message->Signed("below"), -7);
  EXPECT_TRUE(message->Flag("flag"));
  EXPECT_TRUE(message->Has("empty"));
  EXPECT_FALSE(message->Has("other"));
}

TEST(AgentMessage, AFieldOfAnotherKindIsAsGoodAsNone) {
  std::string bytes = Cbor({{"t", 1}, {"n", "text"}, {"below", -1}, {"large", std::numeric_limits<uint64_t>::max()}});
  std::optional<Message> message = Message::Parse(bytes);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type(), "");
  EXPECT_EQ(message->Number("n", 5), 5u);
  EXPECT_EQ(message->Number("below", 5), 5u) << "a negative number is no size";
  EXPECT_EQ(message->Signed("large", 5), 5) << "does not fit";
  EXPECT_FALSE(message->Flag("n"));
}

struct Refused {
  std::string_view name;
  std::string bytes;
};
void PrintTo(const Refused& refused, std::ostream* out) { *out << refused.name; }

class AgentMessageRefuses : public testing::TestWithParam<Refused> {};

TEST_P(AgentMessageRefuses, WhatIsNoFlatMap) { EXPECT_FALSE(Message::Parse(GetParam().bytes)); }

json ManyFields(size_t count) {
  json object;
  for (size_t i = 0; i < count; ++i) object[std::to_string(i)] = i;
  return object;
}

INSTANTIATE_TEST_SUITE_P(
    , AgentMessageRefuses,
    testing::Values(Refused{"Nothing", ""}, Refused{"ANumber", "\x01"}, Refused{"AnArray", Cbor({1, 2})},
                    Refused{"ANestedMap", Cbor({{"t", {{"deep", 1}}}})}, Refused{"ANestedArray", Cbor({{"t", {1}}})},
                    Refused{"AFloat", Cbor({{"t", 1.5}})}, Refused{"ANull", Cbor({{"t", nullptr}})},
                    Refused{"AKeyThatIsNoText", std::string("\xa1\x01\x02")},
                    Refused{"SomethingAfterTheMap", Cbor({{"t", "a"}}) + "x"},
                    Refused{"MoreFieldsThanAreAllowed", Cbor(ManyFields(Message::kMaxFields + 1))},
                    Refused{"ACountOfFieldsBeyondMemory", std::string("\xbb\xff\xff\xff\xff\xff\xff\xff\xff", 9)},
                    Refused{"ATextLongerThanTheBytes", std::string("\xa1\x7b\xff\xff\xff\xff\xff\xff\xff\xff", 10)},
                    Refused{"ATextOfUnknownLength", std::string("\xbf\x61t\x7f\x61x\xff\xff")},
                    Refused{"AReservedLength", std::string("\xa1\x61t\x1c")},
                    Refused{"AMapWithoutItsEnd", std::string("\xbf\x61t\x01")}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(AgentMessage, EveryPieceOfAMessageIsRefusedAndReadsNothingBeyondIt) {
  std::string whole = MessageWriter("put").Set("path", "/a/b").Set("n", 1 << 20).Set("id", -5).Finish();
  for (size_t length = 0; length < whole.size(); ++length) {
    // Its own allocation, so that AddressSanitizer sees a read behind it.
    std::string piece(whole.data(), length);
    piece.shrink_to_fit();
    EXPECT_FALSE(Message::Parse(piece)) << length;
  }
}

TEST(AgentMessage, ChangedBytesAreRefusedOrReadAndNeverWorse) {
  std::mt19937 random(20'25);
  std::string whole = MessageWriter("entry").Set("name", "a/b").Set("size", 70'000).Set("yes", true).Finish();
  for (int round = 0; round < 20'000; ++round) {
    std::string changed = whole;
    for (int i = 0; i < 3; ++i) changed[random() % changed.size()] = static_cast<char>(random());
    std::optional<Message> message = Message::Parse(changed);
    if (!message) continue;
    EXPECT_LE(message->Text("name").size(), changed.size());
    message->Number("size");
  }
}

}  // namespace
}  // namespace mayfly::internal::agent
