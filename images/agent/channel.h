// The agent's end of the byte stream to the host: frames in, frames out.
//
// Everything sent in one turn of the loop leaves in one write. The descriptor is watched edge-triggered and never
// polled: a virtio port without a host reports a hang-up for as long as that lasts.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include <mayfly/internal/agent_frame.h>

#include "loop.h"

namespace mayfly::agent {

class Channel {
 public:
  enum class Kind {
    kPort,    // a virtio port: outlives its host, reports a hang-up while there is none
    kSocket,  // ends when its peer is gone
  };
  Channel(Loop& loop, UniqueFd fd, Kind kind);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  std::function<void(const internal::agent::Frame&)> on_frame;
  std::function<void()> on_room;  // there is room to send again, after congested() was true
  std::function<void()> on_lost;  // the host is gone; what was not sent is forgotten

  void Send(std::string_view header, std::string_view body = {});
  void SendGreeting(std::string_view header);
  // A frame whose body the caller writes into the returned space, which is `room` bytes large; then Commit, with how
  // many of them are used, or Abandon. Nothing else may be sent in between.
  std::span<char> Begin(std::string_view header, size_t room);
  void Commit(size_t used);
  void Abandon() {}

  // True while so much waits to be sent that requests should make no more data.
  bool congested() const { return end_ - begin_ > kCongested; }

  // One turn: reads and handles frames, then writes. True: there is more to read, come back without waiting.
  bool Turn();
  // Writes all that waits, blocking, for last words.
  void Drain(Milliseconds limit);

 private:
  static constexpr size_t kCongested = 512 << 10;
  static constexpr int kReadsATurn = 128;
  void OnEvent(uint32_t events);
  bool Read();
  void Write();
  char* Room(size_t count);
  void Lose();

  Loop& loop_;
  UniqueFd fd_;
  const Kind kind_;
  bool readable_ = true;
  bool writable_ = true;
  bool lost_ = false;
  bool was_congested_ = false;
  internal::agent::FrameReader reader_;
  // Bytes to be sent: [begin_, end_) of buffer_.
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  std::string open_header_;  // of the frame between Begin and Commit
};

}  // namespace mayfly::agent
