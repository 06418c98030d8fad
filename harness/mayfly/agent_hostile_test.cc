// Guests that break the protocol, and hosts that do: a socket end in the test's hand instead of one of the two.
#include <mayfly/agent.h>

#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/agent_frame.h>
#include <mayfly/internal/agent_message.h>
#include <mayfly/internal/agent_process.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/vm.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace mayfly {
namespace {

using internal::UniqueFd;
using internal::agent::Frame;
using internal::agent::FrameReader;
using internal::agent::MakeFrame;
using internal::agent::MakeGreeting;
using internal::agent::Message;
using internal::agent::MessageWriter;
using testing::HasSubstr;
using namespace std::chrono_literals;

// One end of the channel, frame by frame.
class Peer {
 public:
  explicit Peer(UniqueFd socket) : socket_(std::move(socket)) {}

  // False when the other side has hung up.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t count = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count < 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }

  // The next frame's header that is of this type. Nothing when the channel is closed.
  std::optional<Message> Await(std::string_view type) {
    for (;;) {
      while (std::optional<Frame> frame = reader_.Next()) {
        header_ = frame->header;
        body_ = frame->body;
        std::optional<Message> message = Message::Parse(header_);
        if (message && message->type() == type) return message;
      }
      std::span<char> space = reader_.Space();
      ssize_t count = read(socket_.get(), space.data(), space.size());
      if (count <= 0) return std::nullopt;
      reader_.Filled(static_cast<size_t>(count));
    }
  }

  // Of the frame that Await found last.
  const std::string& body() const { return body_; }

 private:
  UniqueFd socket_;
  FrameReader reader_;
  std::string header_;
  std::string body_;
};

// --- A guest that breaks the protocol -------------------------------------------------------------------------------

constexpr uint64_t kSession = 77;

struct Attack {
  std::string_view name;
  // What the guest sends after it was asked to run a command, whose id it is told.
  std::function<std::string(uint64_t id)> bytes;
  std::string_view told;
};
void PrintTo(const Attack& attack, std::ostream* out) { *out << attack.name; }

std::string Data(uint64_t id, int stream, size_t size) {
  return MakeFrame(MessageWriter("data").Set("id", id).Set("st", stream).Finish(), std::string(size, 'x'));
}

class HostileGuest : public testing::TestWithParam<Attack> {
 protected:
  HostileGuest() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("no socket pair");
    guest.emplace(UniqueFd(ends[1]));
    agent.emplace(UniqueFd(ends[0]), timeline, AgentOptions{.name = "guest", .transcript = {}});
  }

  void Greet(uint64_t session = kSession, uint64_t protocol = internal::agent::kProtocolVersion) {
    uint64_t client = guest->Await("hello?")->Number("client");
    guest->Send(MakeGreeting(
        MessageWriter("hello").Set("client", client).Set("session", session).Set("protocol", protocol).Finish()));
  }

  std::string ErrorOf(const std::function<void()>& function) {
    try {
      function();
    } catch (const GuestFailed& error) {
      return error.what();
    }
    return "no error";
  }

  Timeline timeline;
  std::optional<Peer> guest;
  std::optional<Agent> agent;
};

TEST_P(HostileGuest, EndsTheConnectionWithWordsAndNotTheTest) {
  Greet();
  agent->WaitForHello(Deadline::After(10s));
  std::jthread attacker([&] {
    uint64_t id = guest->Await("exec")->Number("id");
    guest->Send(GetParam().bytes(id));
  });
  std::string told = ErrorOf([&] { agent->Exec("true", {.timeout = 10s}); });
  attacker.join();
  EXPECT_THAT(told, HasSubstr("'guest': the guest's agent broke the protocol: "));
  EXPECT_THAT(told, HasSubstr(GetParam().told));
  EXPECT_FALSE(agent->connected());
}

INSTANTIATE_TEST_SUITE_P(
    , HostileGuest,
    testing::Values(
        Attack{"AHeaderThatIsNoMap", [](uint64_t) { return MakeFrame("\x01"); }, "no flat CBOR map"},
        Attack{"AnAnswerToNoRequest",
               [](uint64_t id) { return MakeFrame(MessageWriter("done").Set("id", id + 2).Finish()); },
               "which was never made"},
        Attack{"AnAnswerWithControlCharacters",
               [](uint64_t) { return MakeFrame(MessageWriter("\x1b[2J").Set("id", 4000).Finish()); },
               "' [2J' for request 4000"},
        Attack{"OutputOnTheStreamOfTheInput", [](uint64_t id) { return Data(id, 0, 1); }, "has no stream 0"},
        Attack{"OutputOnAStreamThatIsNone", [](uint64_t id) { return Data(id, 3, 1); }, "has no stream 3"},
        Attack{"AnotherGreetingThanHello", [](uint64_t) { return MakeGreeting(MessageWriter("hi").Finish()); },
               "a greeting that is no hello"}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(HostileGuest, ThatGreetsWithoutEndIsHungUpOn) {
  Greet();
  agent->WaitForHello(Deadline::After(10s));
  int sent = 0;
  while (sent < 1'000'000 &&
         guest->Send(MakeGreeting(MessageWriter("hello").Set("client", 1).Set("session", sent + 1).Finish())))
    ++sent;
  EXPECT_LT(sent, 1'000'000);
  EXPECT_THAT(ErrorOf([&] { agent->Exec("true"); }), HasSubstr("hello too often"));
}

TEST_F(HostileGuest, ThatSendsMoreThanItMayIsHungUpOn) {
  Greet();
  agent->WaitForHello(Deadline::After(10s));
  PortForward forward = agent->ForwardToGuest(80);
  boost::asio::io_context io;
  boost::asio::ip::tcp::socket stuck(io);  // a client that does not read, so that nothing is given back
  stuck.connect({boost::asio::ip::address_v4::loopback(), forward.port()});
  uint64_t id = guest->Await("dial")->Number("id");
  guest->Send(MakeFrame(MessageWriter("ready").Set("id", id).Finish()));
  int sent = 0;
  while (sent < 10'000 && guest->Send(Data(id, 1, 60'000))) ++sent;
  EXPECT_LT(sent, 10'000);
  EXPECT_THAT(ErrorOf([&] { agent->Exec("true"); }), HasSubstr("more data than credit"));
}

TEST_F(HostileGuest, OfAnotherProtocolIsTold) {
  Greet(kSession, 9);
  EXPECT_THAT(
      ErrorOf([&] { agent->WaitForHello(Deadline::After(10s)); }),
      testing::AllOf(HasSubstr("it speaks version 9, this program version 2"), HasSubstr("mayfly image build")));
}

TEST_F(HostileGuest, AConsoleThatTalksOnTheChannelIsSkipped) {
  guest->Send("Linux version 6.1\r\nMFLY MFHI\r\nlogin: ");
  Greet();
  EXPECT_EQ(agent->WaitForHello(Deadline::After(10s)).session, kSession);
}

TEST_F(HostileGuest, AnswersOfTheSessionBeforeAreNotTakenForThoseOfTheNext) {
  Greet();
  agent->WaitForHello(Deadline::After(10s));
  std::jthread restarting([&] {
    guest->Await("exec");
    // It restarted: it says hello to nobody, and is asked again.
    MessageWriter hello("hello");
    hello.Set("client", 0).Set("session", kSession + 1).Set("boot", "another one");
    guest->Send(MakeGreeting(hello.Finish()));
  });
  EXPECT_THAT(ErrorOf([&] { agent->Exec("true", {.timeout = 10s}); }), HasSubstr("the guest restarted"));
  restarting.join();
  Greet(kSession + 1);
  EXPECT_EQ(agent->WaitForHello(Deadline::After(10s), kSession).session, kSession + 1);
}

// --- Copies
// -----------------------------------------------------------------------------------------------------------

// Asked for a channel whose guest is a copy.
class CopiedGuest : public testing::Test {
 protected:
  CopiedGuest() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("no socket pair");
    guest.emplace(UniqueFd(ends[1]));
    agent.emplace(UniqueFd(ends[0]), timeline,
                  AgentOptions{.name = "guest", .transcript = {}, .copy = GuestIdentity{.hostname = "tiny-7f3a"}});
  }

  void Answer(MessageWriter hello) {
    hello.Set("session", kSession).Set("protocol", internal::agent::kProtocolVersion);
    guest->Send(MakeGreeting(hello.Finish()));
  }

  Timeline timeline;
  std::optional<Peer> guest;
  std::optional<Agent> agent;
};

TEST_F(CopiedGuest, IsToldWhoItIsWithTheGreetingAndOnce) {
  std::optional<Message> greeting = guest->Await("hello?");
  EXPECT_TRUE(greeting->Flag("fix"));
  EXPECT_EQ(greeting->Text("hostname"), "tiny-7f3a");
  EXPECT_GT(greeting->Signed("time"), 0);
  EXPECT_GE(guest->body().size(), 32u);  // random bytes
  Answer(MessageWriter("hello").Set("client", greeting->Number("client")));
  EXPECT_EQ(agent->WaitForHello(Deadline::After(10s)).session, kSession);
  // What restarts is no copy: it is greeted as it is.
  guest->Send(MakeGreeting(MessageWriter("hello").Set("client", 0).Set("session", kSession + 1).Finish()));
  EXPECT_FALSE(guest->Await("hello?")->Flag("fix"));
}

TEST_F(CopiedGuest, ThatCannotBecomeItselfIsNotReady) {
  uint64_t client = guest->Await("hello?")->Number("client");
  Answer(MessageWriter("hello").Set("client", client).Set("errno", 30).Set("text", "/etc/hostname: Read-only"));
  EXPECT_THAT([&] { agent->WaitForHello(Deadline::After(10s)); },
              testing::ThrowsMessage<GuestFailed>(
                  HasSubstr("'guest': cannot set clock, entropy and identity: /etc/hostname: Read-only")));
  EXPECT_FALSE(agent->connected());
}

// --- A host that breaks it: the real agent has to live on -----------------------------------------------------------

class HostileHost : public testing::Test {
 protected:
  void Greet() {
    host.Send(MakeGreeting(MessageWriter("hello?").Set("client", client).Finish()));
    std::optional<Message> hello;
    do hello = host.Await("hello");
    while (hello && hello->Number("client") != client);
    ASSERT_TRUE(hello) << "the agent is gone";
    session = hello->Number("session");
  }

  MessageWriter Request(std::string_view type, uint64_t id) {
    MessageWriter request(type);
    request.Set("s", session).Set("id", id);
    return request;
  }

  // The agent still does what it is asked for.
  void ExpectAlive(uint64_t id) {
    host.Send(MakeFrame(Request("stat", id).Set("path", "/").Finish()));
    std::optional<Message> done = host.Await("done");
    ASSERT_TRUE(done) << "the agent is gone";
    EXPECT_EQ(done->Number("id"), id);
  }

  internal::AgentProcess process{MAYFLY_AGENT_PROGRAM};
  Peer host{process.TakeSocket()};
  uint64_t client = 12345;
  uint64_t session = 0;
};

TEST_F(HostileHost, GarbageBeforeAndBetweenFramesIsSkipped) {
  host.Send(std::string(1 << 20, 'M') + "FLY garbage \xff\xff");
  Greet();
  host.Send("MFLY" + std::string(300, '\xff'));
  ExpectAlive(2);
}

TEST_F(HostileHost, AHalfFrameOfAHostThatDiedIsForgottenForTheNextHost) {
  Greet();
  host.Send(
      MakeFrame(Request("put", 2).Set("path", "/nonexistent").Finish(), std::string(200'000, 'x')).substr(0, 999));
  client = 54321;
  Greet();
  ExpectAlive(2);
}

TEST_F(HostileHost, UnknownAndEmptyRequestsAreRefused) {
  Greet();
  host.Send(MakeFrame(Request("fly", 2).Finish()));
  EXPECT_EQ(host.Await("error")->Number("id"), 2u);
  host.Send(MakeFrame(Request("exec", 4).Finish()));
  EXPECT_EQ(host.Await("error")->Number("id"), 4u);
  host.Send(MakeFrame(Request("put", 6).Finish()));
  host.Send(
      MakeFrame(Request("entry", 6).Set("st", 0).Set("kind", "file").Set("name", "").Set("mode", 0644).Finish(), "x"));
  EXPECT_EQ(host.Await("error")->Number("id"), 6u);
  ExpectAlive(8);
}

TEST_F(HostileHost, RequestsOfAnotherSessionAreDropped) {
  Greet();
  session += 1;
  host.Send(MakeFrame(Request("stat", 2).Set("path", "/").Finish()));
  session -= 1;
  ExpectAlive(4);
}

TEST_F(HostileHost, NamesThatLeadOutOfTheTreeAreRefused) {
  internal::TestDirectory directory;
  Greet();
  for (const std::string& name :
       std::vector<std::string>{"../escaped", (directory / "escaped").string(), "a/../../escaped", "a//b", "."}) {
    uint64_t id = 100;
    host.Send(MakeFrame(Request("put", id).Set("path", (directory / "tree").string()).Finish()));
    host.Send(
        MakeFrame(Request("entry", id).Set("st", 0).Set("kind", "dir").Set("name", "").Set("mode", 0755).Finish()));
    host.Send(MakeFrame(
        Request("entry", id).Set("st", 0).Set("kind", "file").Set("name", name).Set("mode", 0644).Finish(), "x"));
    EXPECT_TRUE(host.Await("error")) << name;
    EXPECT_FALSE(std::filesystem::exists(directory / "escaped")) << name;
    client += 1;
    Greet();
  }
  ExpectAlive(2);
}

TEST_F(HostileHost, MoreRequestsThanAreAllowedAreRefusedAndTheOthersGoOn) {
  Greet();
  for (uint64_t id = 2; id <= 2200; id += 2)
    host.Send(MakeFrame(Request("wait", id).Set("what", "file").Set("name", "/no/such/file").Finish()));
  EXPECT_TRUE(host.Await("error"));
  host.Send(MakeFrame(Request("cancel", 2).Finish()));
  ExpectAlive(5000);
}

}  // namespace
}  // namespace mayfly
