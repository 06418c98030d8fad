#include "drivers/qemu/qmp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>
#include <string>
#include <thread>

namespace mayfly::internal {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kGreeting = R"({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 1}}}})"
                                  "\r\n";

Deadline Soon() { return Deadline::After(seconds(10)); }

// A client whose other end is played by the test.
class QmpClientTest : public testing::Test {
 protected:
  void SetUp() override {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    peer_.Reset(pair[1]);
    client_.emplace(UniqueFd(pair[0]), QmpClient::Handlers{.on_event =
                                                               [this](const std::string& name, const json& data) {
                                                                 std::lock_guard lock(mutex_);
                                                                 events_.push_back(name + data.dump());
                                                               },
                                                           .on_closed =
                                                               [this](bool in_order, const std::string& reason) {
                                                                 in_order_ = in_order;
                                                                 closed_.set_value(reason);
                                                               }});
  }

  void Say(std::string_view text) {
    while (!text.empty()) {
      ssize_t count = send(peer_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return;  // the client has closed
      text.remove_prefix(static_cast<size_t>(count));
    }
  }

  // The next command that the client sends.
  json Hear() {
    std::string line;
    for (char c = 0; read(peer_.get(), &c, 1) == 1 && c != '\n';) line.push_back(c);
    return json::parse(line);
  }

  void Answer(const json& command, const json& result) {
    Say(json{{"return", result}, {"id", command["id"]}}.dump() + "\n");
  }

  std::future<json> Ask(const std::string& command, const json& arguments = nullptr) {
    return std::async(std::launch::async, [=, this] { return client_->Execute(command, arguments, Soon()); });
  }

  std::string CloseReason() {
    auto reason = closed_.get_future();
    if (reason.wait_for(seconds(10)) != std::future_status::ready) return "still open";
    return reason.get();
  }

  UniqueFd peer_;
  std::mutex mutex_;
  std::vector<std::string> events_;
  std::promise<std::string> closed_;
  std::atomic<bool> in_order_ = false;
  std::optional<QmpClient> client_;
};

TEST_F(QmpClientTest, SendsAllCommandsBeforeTheFirstIsAnswered) {
  auto done = std::async(std::launch::async, [this] {
    client_->NegotiateAndExecute({{"migrate-set-capabilities", {{"capabilities", json::array()}}}, {"stop"}}, Soon());
  });
  std::vector<json> heard = {Hear(), Hear(), Hear()};
  EXPECT_EQ(heard[0]["execute"], "qmp_capabilities");
  EXPECT_EQ(heard[1]["execute"], "migrate-set-capabilities");
  EXPECT_EQ(heard[2]["execute"], "stop");
  Say(kGreeting);
  for (const json& command : heard) Answer(command, json::object());
  done.get();
}

TEST_F(QmpClientTest, TheFirstOfManyThatIsRefusedIsThrown) {
  auto done = std::async(std::launch::async, [this] { client_->NegotiateAndExecute({{"stop"}, {"cont"}}, Soon()); });
  json capabilities = Hear(), stop = Hear(), cont = Hear();
  Answer(capabilities, json::object());
  Say(json{{"error", {{"desc", "not now"}}}, {"id", stop["id"]}}.dump() + "\n");
  EXPECT_THROW(done.get(), QmpError);
}

TEST_F(QmpClientTest, NegotiatesAndGivesTheGreeting) {
  auto greeting = std::async(std::launch::async, [this] { return client_->Negotiate(Soon()); });
  Say(kGreeting);
  json command = Hear();
  EXPECT_EQ(command["execute"], "qmp_capabilities");
  Answer(command, json::object());
  EXPECT_EQ(greeting.get()["version"]["qemu"]["major"], 7);
}

TEST_F(QmpClientTest, PassesArgumentsAndReturnsTheResult) {
  auto reply = Ask("balloon", {{"value", 42}});
  json command = Hear();
  EXPECT_EQ(command["arguments"]["value"], 42);
  Answer(command, {{"done", true}});
  EXPECT_EQ(reply.get()["done"], true);
}

TEST_F(QmpClientTest, MatchesAnswersToCommandsByIdWhateverTheirOrder) {
  auto first = Ask("first");
  json one = Hear();
  auto second = Ask("second");
  json two = Hear();
  Answer(two, 2);
  EXPECT_EQ(second.get(), 2);
  Answer(one, 1);
  EXPECT_EQ(first.get(), 1);
}

TEST_F(QmpClientTest, ThrowsWhatQemuRefusesInItsOwnWords) {
  auto reply = Ask("system_reset");
  json command = Hear();
  Say(json{{"error", {{"class", "GenericError"}, {"desc", "not now"}}}, {"id", command["id"]}}.dump() + "\n");
  try {
    reply.get();
    FAIL() << "an error was taken for an answer";
  } catch (const QmpError& error) {
    EXPECT_EQ(error.description(), "not now");
    EXPECT_THAT(error.what(), HasSubstr("system_reset"));
  }
}

TEST_F(QmpClientTest, ReadsMessagesThatComeInPieces) {
  auto reply = Ask("query-status");
  json command = Hear();
  std::string text = json{{"return", "running"}, {"id", command["id"]}}.dump() + "\n";
  for (char c : text) Say(std::string_view(&c, 1));
  EXPECT_EQ(reply.get(), "running");
}

TEST_F(QmpClientTest, HandsOverEventsInOrderBeforeTheAnswerThatFollowsThem) {
  auto reply = Ask("stop");
  json command = Hear();
  Say(R"({"event": "STOP", "timestamp": {}})"
      "\n"
      R"({"event": "RESET", "data": {"guest": true}})"
      "\n");
  Answer(command, json::object());
  reply.get();
  std::lock_guard lock(mutex_);
  EXPECT_THAT(events_, ElementsAre("STOP{}", R"(RESET{"guest":true})"));
}

TEST_F(QmpClientTest, TakesAStormOfEvents) {
  constexpr int kEvents = 50'000;
  auto reply = Ask("query-status");
  json command = Hear();
  std::string storm;
  for (int i = 0; i < kEvents; ++i) storm += "{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 1}}\n";
  Say(storm);
  Answer(command, "ok");
  EXPECT_EQ(reply.get(), "ok");
  std::lock_guard lock(mutex_);
  EXPECT_EQ(events_.size(), static_cast<size_t>(kEvents));
}

TEST_F(QmpClientTest, FailsCommandsUnderWayWhenTheOtherSideGoes) {
  auto reply = Ask("query-status");
  Hear();
  peer_.Reset();
  EXPECT_THROW(reply.get(), VmmDied);
  EXPECT_THAT(CloseReason(), HasSubstr("closed its control socket"));
  EXPECT_TRUE(in_order_);
  EXPECT_THROW(client_->Execute("query-status", nullptr, Soon()), VmmDied) << "also commands that come later";
}

TEST_F(QmpClientTest, GivesUpAfterTheDeadlineAndIgnoresTheLateAnswer) {
  auto reply = std::async(std::launch::async, [this] {
    return client_->Execute("query-status", nullptr, Deadline::After(milliseconds(20)));
  });
  json late = Hear();
  EXPECT_THROW(reply.get(), Timeout);
  Answer(late, "late");
  auto next = Ask("query-version");
  Answer(Hear(), "next");
  EXPECT_EQ(next.get(), "next");
}

TEST_F(QmpClientTest, NegotiationEndsAtTheDeadlineWhenNobodyGreets) {
  EXPECT_THROW(client_->Negotiate(Deadline::After(milliseconds(20))), Timeout);
}

TEST_F(QmpClientTest, ClosesOnALineThatIsTooLong) {
  auto reply = Ask("query-status");
  Hear();
  std::thread flood([this] {
    std::string chunk(1 << 20, 'x');
    for (int i = 0; i < 17; ++i) Say(chunk);
  });
  EXPECT_THROW(reply.get(), VmmDied);
  flood.join();
  EXPECT_THAT(CloseReason(), HasSubstr("more than 16 MiB"));
  EXPECT_FALSE(in_order_);
}

class QmpGarbage : public QmpClientTest, public testing::WithParamInterface<const char*> {};

TEST_P(QmpGarbage, ClosesTheConnectionAndShowsWhatCame) {
  auto reply = Ask("query-status");
  Hear();
  Say(std::string(GetParam()) + "\n");
  EXPECT_THROW(reply.get(), VmmDied);
  EXPECT_THAT(CloseReason(), HasSubstr("sent no QMP message"));
  EXPECT_FALSE(in_order_);
}

INSTANTIATE_TEST_SUITE_P(Lines, QmpGarbage,
                         testing::Values("hello", "[]", "42", "{}", "{\"return\": 1}", "{\"event\": 5}",
                                         "{\"id\": \"1\"}", "{\"return\": {}, \"id\": 1}", "{\"a\": \"\xff\xfe\"}",
                                         "{"));

}  // namespace
}  // namespace mayfly::internal
