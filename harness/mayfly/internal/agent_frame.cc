#include <mayfly/internal/agent_frame.h>

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mayfly::internal::agent {
namespace {

uint32_t Load(const char* from) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  return uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

void Store(char* to, uint32_t value) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<char>(value >> (8 * i));
}

uint32_t Check(std::string_view header, size_t body) {
  return static_cast<uint32_t>(XXH64(header.data(), header.size(), uint64_t{header.size()} << 32 | body));
}

bool IsMagic(uint32_t value) { return value == kMagic || value == kGreetingMagic; }

std::string Make(uint32_t magic, std::string_view header, std::string_view body) {
  std::string frame;
  frame.reserve(kFixedHeader + header.size() + body.size());
  frame.resize(kFixedHeader);
  WriteFixedHeader(frame.data(), magic, header, body.size());
  frame += header;
  frame += body;
  return frame;
}

}  // namespace

void WriteFixedHeader(char* out, uint32_t magic, std::string_view header, size_t body) {
  Store(out, magic);
  Store(out + 4, static_cast<uint32_t>(header.size()));
  Store(out + 8, static_cast<uint32_t>(body));
  Store(out + 12, Check(header, body));
}

std::string MakeFrame(std::string_view header, std::string_view body) { return Make(kMagic, header, body); }

std::string MakeGreeting(std::string_view header, std::string_view body) {
  char tail[kGreetingTail];
  Store(tail, static_cast<uint32_t>(kFixedHeader + header.size() + body.size() + sizeof tail));
  Store(tail + 4, kGreetingEnd);
  return Make(kGreetingMagic, header, std::string(body).append(tail, sizeof tail));
}

std::span<char> FrameReader::Space() {
  if (begin_ == end_) begin_ = end_ = 0;
  // Moved only when there is no room for a large read, so that most frames are never copied.
  if (kCapacity - end_ < (64 << 10)) {
    memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.get() + end_, kCapacity - end_};
}

std::optional<Frame> FrameReader::Next() {
  while (SkipToMagic()) {
    const char* start = buffer_.get() + begin_;
    size_t have = end_ - begin_;
    size_t header = have < kFixedHeader ? 0 : Load(start + 4);
    size_t body = have < kFixedHeader ? 0 : Load(start + 8);
    if (have >= kFixedHeader && (header == 0 || header > kMaxHeader || body > kMaxBody)) {
      Skip(1);
      continue;
    }
    if (!verified_ && have >= kFixedHeader && have >= kFixedHeader + header) {
      if (Load(start + 12) != Check({start + kFixedHeader, header}, body)) {
        Skip(1);
        continue;
      }
      verified_ = true;
    }
    size_t whole = kFixedHeader + header + body;
    if (!verified_ || have < whole) {
      if (SkipToGreetingAtEnd()) continue;
      return std::nullopt;
    }
    begin_ += whole;
    verified_ = false;
    return Frame{.greeting = Load(start) == kGreetingMagic,
                 .header = {start + kFixedHeader, header},
                 .body = {start + kFixedHeader + header, body}};
  }
  return std::nullopt;
}

void FrameReader::Skip(size_t count) {
  begin_ += count;
  skipped_ += count;
  verified_ = false;
}

// Moves begin_ to the next magic. False when fewer than four bytes are left.
bool FrameReader::SkipToMagic() {
  while (end_ - begin_ >= 4) {
    const char* start = buffer_.get() + begin_;
    if (IsMagic(Load(start))) return true;
    const void* next = memchr(start + 1, 'M', end_ - begin_ - 1);
    Skip(next == nullptr ? end_ - begin_ : static_cast<size_t>(static_cast<const char*>(next) - start));
  }
  return false;
}

// In a half frame: when what was read ends with a whole greeting, the rest of the half frame will never come.
bool FrameReader::SkipToGreetingAtEnd() {
  size_t have = end_ - begin_;
  if (have < kFixedHeader + kGreetingTail + 1) return false;
  const char* end = buffer_.get() + end_;
  if (Load(end - 4) != kGreetingEnd) return false;
  size_t length = Load(end - 8);
  if (length < kFixedHeader + kGreetingTail + 1 || length > kMaxGreeting || length >= have) return false;
  const char* greeting = end - length;
  size_t header = Load(greeting + 4);
  size_t body = Load(greeting + 8);
  bool whole = header > 0 && header <= length && body >= kGreetingTail && body == length - kFixedHeader - header;
  if (Load(greeting) != kGreetingMagic || !whole) return false;
  if (Load(greeting + 12) != Check({greeting + kFixedHeader, header}, body)) return false;
  Skip(have - length);
  return true;
}

}  // namespace mayfly::internal::agent
