// A server that plays Cloud Hypervisor's API for protocol tests: each connection runs a script on a thread of its own.
//
//   ScriptedServer server([](ScriptedServer::Peer& peer) {
//     while (auto request = peer.Hear()) peer.Say("HTTP/1.1 204 \r\nConnection: keep-alive\r\n\r\n");
//   });
//   Api api({.socket = server.path()});
//
// As the real one it serves ten connections at a time and turns an eleventh away with a 503 that is not quite HTTP.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <mayfly/internal/test_directory.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/internal/unix_address.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mayfly::ch {

// An answer with a body, in the real server's words.
inline std::string Reply(std::string_view status, std::string_view body) {
  return fmt::format(
      "HTTP/1.1 {} \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      status, body.size(), body);
}
inline std::string NoContent() {
  return "HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n";
}

class ScriptedServer {
 public:
  struct Request {
    std::string head{};  // "PUT /api/v1/vm.boot HTTP/1.1\r\n…"
    std::string body{};
    std::vector<internal::UniqueFd> descriptors{};
    bool half_closed = false;  // the client has shut its side down for writing
    // "PUT vm.boot"
    std::string Line() const {
      size_t space = head.find(' ');
      size_t path = head.find("/api/v1/") + std::strlen("/api/v1/");
      return head.substr(0, space + 1) + head.substr(path, head.find(' ', path) - path);
    }
  };

  class Peer {
   public:
    explicit Peer(int socket) : socket_(socket) {}

    // The next request; nothing when the client has closed.
    std::optional<Request> Hear() {
      Request request;
      std::string received;
      size_t need = std::string::npos;
      while (received.size() < need) {
        if (!Receive(received, request.descriptors)) return std::nullopt;
        size_t end = received.find("\r\n\r\n");
        if (need != std::string::npos || end == std::string::npos) continue;
        request.head = received.substr(0, end);
        size_t length = request.head.find("Content-Length: ");
        size_t body = length == std::string::npos ? 0 : std::stoul(request.head.substr(length + 16));
        need = end + 4 + body;
      }
      request.body = received.substr(request.head.size() + 4);
      pollfd state{socket_, POLLRDHUP, 0};
      poll(&state, 1, 0);
      request.half_closed = (state.revents & POLLRDHUP) != 0;
      return request;
    }

    void Say(std::string_view text) {
      while (!text.empty()) {
        ssize_t count = send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
        if (count <= 0) return;
        text.remove_prefix(static_cast<size_t>(count));
      }
    }

    // Waits until the client has closed.
    void AwaitClose() {
      std::string ignored;
      std::vector<internal::UniqueFd> none;
      while (Receive(ignored, none)) ignored.clear();
    }

   private:
    bool Receive(std::string& received, std::vector<internal::UniqueFd>& descriptors) const {
      std::array<char, 65536> chunk{};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control{};
      iovec bytes{.iov_base = chunk.data(), .iov_len = chunk.size()};
      msghdr message{};
      message.msg_iov = &bytes;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      ssize_t count = recvmsg(socket_, &message, MSG_CMSG_CLOEXEC);
      if (count <= 0) return false;
      for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        std::vector<int> numbers((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        std::memcpy(numbers.data(), CMSG_DATA(header), numbers.size() * sizeof(int));
        for (int number : numbers) descriptors.emplace_back(number);
      }
      received.append(chunk.data(), static_cast<size_t>(count));
      return true;
    }

    int socket_;
  };

  using Script = std::function<void(Peer& peer)>;

  explicit ScriptedServer(Script script) : script_(std::move(script)) {
    listener_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = internal::UnixAddress(path()).value();
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 64), 0);
    accepter_ = std::thread([this] { Accept(); });
  }

  ~ScriptedServer() {
    shutdown(listener_.get(), SHUT_RDWR);
    accepter_.join();
    {
      std::lock_guard lock(mutex_);
      for (auto& socket : sockets_) shutdown(socket.get(), SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::filesystem::path path() const { return directory_ / "api.sock"; }
  int accepted() const { return accepted_; }
  int turned_away() const { return turned_away_; }
  // Returns once a connection has been turned away.
  void AwaitTurnedAway() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return turned_away_ > 0; });
  }
  // Returns once `count` scripts are over and their connections closed.
  void AwaitClosed(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return closed_ >= count; });
  }

 private:
  void Accept() {
    while (true) {
      internal::UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!socket) return;
      ++accepted_;
      if (open_ == kMostConnections) {
        {
          std::lock_guard lock(mutex_);
          ++turned_away_;
        }
        changed_.notify_all();
        Peer(socket.get())
            .Say(
                "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
                "{ \"error\": \"Too many open connections\" }");
        continue;
      }
      ++open_;
      std::lock_guard lock(mutex_);
      int number = socket.get();
      sockets_.push_back(std::move(socket));
      threads_.emplace_back([this, number] {
        Peer peer(number);
        script_(peer);
        // Closed only at the end: another connection must not get its number meanwhile.
        shutdown(number, SHUT_RDWR);
        --open_;
        std::lock_guard closing(mutex_);
        ++closed_;
        changed_.notify_all();
      });
    }
  }

  static constexpr int kMostConnections = 10;

  internal::TestDirectory directory_;
  Script script_;
  internal::UniqueFd listener_;
  std::atomic<int> open_ = 0;
  std::atomic<int> accepted_ = 0;
  std::atomic<int> turned_away_ = 0;
  int closed_ = 0;  // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<internal::UniqueFd> sockets_;
  std::vector<std::thread> threads_;
  std::thread accepter_;
};

}  // namespace mayfly::ch
