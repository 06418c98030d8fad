#include <mayfly/internal/message_socket.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <thread>

namespace mayfly::internal {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

Deadline Soon() { return Deadline::After(seconds(20)); }

class MessageSocketTest : public testing::Test {
 protected:
  MessageSocketTest() : MessageSocketTest(SocketPair()) {}

  void SendRaw(std::string_view bytes) {
    ASSERT_EQ(write(ours_.fd(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  MessageSocket ours_;
  MessageSocket theirs_;

 private:
  explicit MessageSocketTest(std::pair<UniqueFd, UniqueFd> pair)
      : ours_(std::move(pair.first)), theirs_(std::move(pair.second)) {}
};

TEST_F(MessageSocketTest, CarriesObjectsInOrder) {
  ours_.Send({{"op", "one"}}, Soon());
  ours_.Send({{"op", "two"}, {"list", {1, 2, 3}}}, Soon());
  EXPECT_EQ(theirs_.Receive(Soon())->body, json({{"op", "one"}}));
  EXPECT_EQ(theirs_.Receive(Soon())->body, json({{"op", "two"}, {"list", {1, 2, 3}}}));
}

TEST_F(MessageSocketTest, CarriesDescriptorsThatAreClosedOnExec) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]), writer(ends[1]);
  ours_.Send({{"op", "take"}}, std::vector<int>{writer.get(), reader.get()}, Soon());
  std::optional<Message> message = theirs_.Receive(Soon());
  ASSERT_EQ(message->descriptors.size(), 2u);
  EXPECT_EQ(fcntl(message->descriptors[0].get(), F_GETFD), FD_CLOEXEC);
  ASSERT_EQ(write(message->descriptors[0].get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(reader.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
}

TEST_F(MessageSocketTest, CarriesMoreThanASocketBufferHolds) {
  json big = {{"text", std::string(3 << 20, 'x')}};
  std::thread sender([&] { ours_.Send(big, Soon()); });
  EXPECT_EQ(theirs_.Receive(Soon())->body, big);
  sender.join();
}

TEST_F(MessageSocketTest, GivesUpOnAPeerThatDoesNotRead) {
  EXPECT_THROW(ours_.Send({{"text", std::string(3 << 20, 'x')}}, Deadline::After(milliseconds(20))), Timeout);
  EXPECT_THROW(ours_.Receive(Deadline::After(milliseconds(5))), Timeout);
}

TEST_F(MessageSocketTest, TellsAnOrderlyEndFromABrokenOne) {
  ours_.Send({{"op", "last"}}, Soon());
  shutdown(ours_.fd(), SHUT_RDWR);
  EXPECT_TRUE(theirs_.Receive(Soon()));
  EXPECT_FALSE(theirs_.Receive(Soon()));
  EXPECT_THROW(theirs_.Send({{"op", "late"}}, Soon()), PeerGone);
}

TEST_F(MessageSocketTest, StopsReceivingButStillSends) {
  std::thread waiting([&] { EXPECT_FALSE(theirs_.Receive(Soon())); });
  theirs_.StopReceiving();
  waiting.join();
  theirs_.Send({{"op", "farewell"}}, Soon());
  EXPECT_EQ(ours_.Receive(Soon())->body["op"], "farewell");
}

TEST_F(MessageSocketTest, RefusesHalfAMessage) {
  SendRaw(std::string("\x10\0\0\0abc", 7));
  shutdown(ours_.fd(), SHUT_RDWR);
  EXPECT_THROW(theirs_.Receive(Soon()), PeerGone);
}

TEST_F(MessageSocketTest, RefusesAFrameThatIsTooLong) {
  SendRaw("\xff\xff\xff\x7f");
  try {
    theirs_.Receive(Soon());
    FAIL() << "accepted";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), HasSubstr("a message of 2147483647 bytes; the limit is 4194304"));
  }
}

TEST_F(MessageSocketTest, RefusesWhatIsNoCborObject) {
  SendRaw(std::string("\x02\0\0\0\xff\xff", 6));
  EXPECT_THROW(theirs_.Receive(Soon()), HostLacks);
  ours_.Send(json::array({1, 2}), Soon());
  EXPECT_THROW(theirs_.Receive(Soon()), HostLacks);
  SendRaw(std::string("\0\0\0\0", 4));
  EXPECT_THROW(theirs_.Receive(Soon()), HostLacks);
}

TEST_F(MessageSocketTest, NamesTheLimitWhenDescriptorsAreLost) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  ours_.Send({{"op", "take"}}, std::vector<int>(8, ours_.fd()), Soon());
  rlimit few{static_cast<rlim_t>(theirs_.fd() + 4), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  try {
    theirs_.Receive(Soon());
    ADD_FAILURE() << "accepted";
  } catch (const HostLacks& error) {
    EXPECT_THAT(error.what(), HasSubstr("ulimit -n"));
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace mayfly::internal
