// Frames of the agent protocol, as bytes (see agent_protocol.h).
//
//   FrameReader reader;
//   std::span<char> space = reader.Space();
//   reader.Filled(read(fd, space.data(), space.size()));
//   while (std::optional<Frame> frame = reader.Next()) …   // its views are valid until the next call of Space
//
// The reader never fails: whatever is no frame is skipped. Its memory is fixed. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <mayfly/internal/agent_protocol.h>

namespace mayfly::internal::agent {

struct Frame {
  bool greeting = false;
  std::string_view header;
  std::string_view body;
};

// Writes the fixed part of a frame with `body` bytes of body to `out` (kFixedHeader bytes).
void WriteFixedHeader(char* out, uint32_t magic, std::string_view header, size_t body);
// A whole frame. Header and body are within the protocol's limits.
std::string MakeFrame(std::string_view header, std::string_view body = {});
// The reader gives back the body with a tail of kGreetingTail bytes.
std::string MakeGreeting(std::string_view header, std::string_view body = {});

class FrameReader {
 public:
  FrameReader() : buffer_(new char[kCapacity]) {}

  // Free space for the next read, at least 64 KiB. Ends the validity of frames that Next returned.
  std::span<char> Space();
  // `count` bytes of Space() were filled.
  void Filled(size_t count) { end_ += count; }
  // The next whole frame, or nothing until more bytes are there.
  std::optional<Frame> Next();
  // Forgets everything unread.
  void Reset() {
    begin_ = end_ = 0;
    verified_ = false;
  }
  // Bytes skipped so far because they were no frame.
  uint64_t skipped() const { return skipped_; }

 private:
  static constexpr size_t kCapacity = kMaxFrame + (256 << 10);
  void Skip(size_t count);
  bool SkipToMagic();
  bool SkipToGreetingAtEnd();

  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool verified_ = false;  // the header at begin_ is whole and its check is right
  uint64_t skipped_ = 0;
};

}  // namespace mayfly::internal::agent
