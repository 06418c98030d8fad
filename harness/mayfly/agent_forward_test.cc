// Forwarded ports between the host and the real agent, without a VM: both ends are this host's loopback.
#include <mayfly/agent.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/agent_process.h>
#include <mayfly/vm.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

namespace mayfly {
namespace {

using boost::asio::ip::tcp;
using testing::HasSubstr;
using namespace std::chrono_literals;

class AgentForward : public testing::Test {
 protected:
  // A server on the loopback that handles each connection by `serve`, on a thread of its own.
  class Server {
   public:
    explicit Server(const std::function<void(tcp::socket&)>& serve, const tcp& version = tcp::v4())
        : acceptor_(io_, Loopback(version)), thread_([this, serve] {
            std::vector<std::thread> connections;
            boost::system::error_code error;
            for (;;) {
              tcp::socket socket(io_);
              acceptor_.accept(socket, error);
              if (error || stopping_) break;
              connections.emplace_back([serve, socket = std::move(socket)]() mutable { serve(socket); });
            }
            for (std::thread& connection : connections) connection.join();
          }) {}
    ~Server() {
      stopping_ = true;
      boost::system::error_code ignored;
      tcp::socket(io_).connect(acceptor_.local_endpoint(), ignored);  // wakes accept
      thread_.join();
    }
    uint16_t port() const { return acceptor_.local_endpoint().port(); }

   private:
    static tcp::endpoint Loopback(const tcp& version) {
      if (version == tcp::v4()) return {boost::asio::ip::address_v4::loopback(), 0};
      return {boost::asio::ip::address_v6::loopback(), 0};
    }

    boost::asio::io_context io_;
    tcp::acceptor acceptor_;
    std::atomic<bool> stopping_ = false;
    std::thread thread_;
  };

  static void Echo(tcp::socket& socket) {
    std::vector<char> buffer(64 << 10);
    boost::system::error_code error;
    while (size_t count = socket.read_some(boost::asio::buffer(buffer), error))
      boost::asio::write(socket, boost::asio::buffer(buffer.data(), count), error);
  }

  tcp::socket Connect(uint16_t port) {
    tcp::socket socket(io);
    socket.connect({boost::asio::ip::address_v4::loopback(), port});
    return socket;
  }

  // Sends all, ends the sending, and returns all that comes back.
  static std::string Exchange(tcp::socket& socket, const std::string& bytes) {
    std::thread writer([&] {
      boost::system::error_code ignored;
      boost::asio::write(socket, boost::asio::buffer(bytes), ignored);
      socket.shutdown(tcp::socket::shutdown_send, ignored);
    });
    std::string back = ReadAll(socket);
    writer.join();
    return back;
  }

  static std::string ReadAll(tcp::socket& socket) {
    std::string all;
    boost::system::error_code end;
    boost::asio::read(socket, boost::asio::dynamic_buffer(all), end);
    return all;
  }

  static std::string Pattern(size_t size) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
    return bytes;
  }

  boost::asio::io_context io;
  internal::LocalAgent local{MAYFLY_AGENT_PROGRAM};
  Agent& agent = local.agent;
};

TEST_F(AgentForward, AConnectionReachesThePortInTheGuest) {
  Server server(Echo);
  PortForward forward = agent.ForwardToGuest(server.port());
  tcp::socket socket = Connect(forward.port());
  std::string bytes = Pattern(3'000'000);
  EXPECT_TRUE(Exchange(socket, bytes) == bytes);
}

TEST_F(AgentForward, AConnectionOfTheGuestReachesThePortOnTheHost) {
  Server server(Echo);
  PortForward forward = agent.ForwardToHost(server.port(), 0);
  tcp::socket socket = Connect(forward.port());
  std::string bytes = Pattern(3'000'000);
  EXPECT_TRUE(Exchange(socket, bytes) == bytes);
}

TEST_F(AgentForward, AServerThatListensOnIpv6OnlyIsReached) {
  if (!std::filesystem::exists("/proc/net/if_inet6")) GTEST_SKIP() << "this host has no IPv6";
  Server server(Echo, tcp::v6());
  PortForward forward = agent.ForwardToGuest(server.port());
  tcp::socket socket = Connect(forward.port());
  EXPECT_EQ(Exchange(socket, "hello"), "hello");
}

TEST_F(AgentForward, OneDirectionMayEndBeforeTheOther) {
  Server server([](tcp::socket& socket) {
    std::string all = ReadAll(socket);  // until the client has ended its side
    boost::asio::write(socket, boost::asio::buffer(std::to_string(all.size())));
  });
  PortForward forward = agent.ForwardToGuest(server.port());
  tcp::socket socket = Connect(forward.port());
  EXPECT_EQ(Exchange(socket, std::string(100'000, 'x')), "100000");
}

TEST_F(AgentForward, ManyConnectionsAreOpenAtOnce) {
  Server server(Echo);
  PortForward forward = agent.ForwardToGuest(server.port());
  std::vector<tcp::socket> sockets;
  for (int i = 0; i < 50; ++i) sockets.push_back(Connect(forward.port()));
  for (size_t i = sockets.size(); i-- > 0;) EXPECT_EQ(Exchange(sockets[i], std::to_string(i)), std::to_string(i));
}

TEST_F(AgentForward, AClientThatDoesNotReadHoldsUpItsOwnConnectionOnly) {
  Server server([](tcp::socket& socket) {
    boost::system::error_code error;
    std::string bytes(1 << 20, 'x');
    for (int i = 0; i < 64 && !error; ++i) boost::asio::write(socket, boost::asio::buffer(bytes), error);
  });
  PortForward forward = agent.ForwardToGuest(server.port());
  tcp::socket stuck = Connect(forward.port());
  std::string first(1 << 20, '\0');
  boost::asio::read(stuck, boost::asio::buffer(first));
  tcp::socket reader = Connect(forward.port());
  EXPECT_EQ(ReadAll(reader).size(), 64u << 20);
  EXPECT_EQ(agent.Exec("echo still here").out, "still here\n");
}

TEST_F(AgentForward, WithoutAListenerTheConnectionIsClosed) {
  uint16_t unused = Server(Echo).port();
  PortForward forward = agent.ForwardToGuest(unused);
  tcp::socket socket = Connect(forward.port());
  EXPECT_EQ(ReadAll(socket), "");
  PortForward back = agent.ForwardToHost(unused, 0);
  tcp::socket from_guest = Connect(back.port());
  EXPECT_EQ(ReadAll(from_guest), "");
}

TEST_F(AgentForward, APortThatIsTakenInTheGuestIsNamed) {
  Server server(Echo);
  try {
    agent.ForwardToHost(1, server.port());
    ADD_FAILURE() << "the port was taken twice";
  } catch (const GuestFailed& error) {
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(server.port())));
    EXPECT_THAT(error.what(), HasSubstr("in use"));
  }
}

TEST_F(AgentForward, EndsWithItsConnectionsWhenItGoes) {
  Server server(Echo);
  auto forward = std::make_unique<PortForward>(agent.ForwardToGuest(server.port()));
  uint16_t port = forward->port();
  tcp::socket socket = Connect(port);
  boost::asio::write(socket, boost::asio::buffer("hello", 5));
  std::string answer(5, '\0');
  boost::asio::read(socket, boost::asio::buffer(answer));
  forward.reset();
  EXPECT_EQ(ReadAll(socket), "");
  EXPECT_THROW(Connect(port), boost::system::system_error) << "nobody listens any more";
}

TEST_F(AgentForward, EndsWhenTheGuestGoes) {
  Server server(Echo);
  PortForward forward = agent.ForwardToGuest(server.port());
  tcp::socket socket = Connect(forward.port());
  boost::asio::write(socket, boost::asio::buffer("hello", 5));
  std::string answer(5, '\0');
  boost::asio::read(socket, boost::asio::buffer(answer));
  local.process.child().Kill();
  EXPECT_EQ(ReadAll(socket), "");
}

}  // namespace
}  // namespace mayfly
