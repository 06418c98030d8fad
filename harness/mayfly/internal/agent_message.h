// Headers of agent frames: flat CBOR maps from text to numbers, truth values and text (RFC 8949).
//
//   std::string bytes = MessageWriter("credit").Set("id", id).Set("st", 1).Set("n", 65536).Finish();
//   std::optional<Message> message = Message::Parse(bytes);
//   message->type() == "credit"; message->Number("n") == 65536
//
// This subset has a parser of its own for three reasons: the peer is hostile, and a parser of nested values recurses as
// deep as the peer likes; it allocates nothing, and the agent runs in emulated guests; it adds 2 kB to the agent. Any
// CBOR library reads and writes the same bytes (agent_message_test.cc compares with nlohmann/json).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly::internal::agent {

class MessageWriter {
 public:
  explicit MessageWriter(std::string_view type);

  MessageWriter& Set(std::string_view key, std::string_view text);
  MessageWriter& Set(std::string_view key, const char* text) { return Set(key, std::string_view(text)); }
  MessageWriter& Set(std::string_view key, uint64_t number);
  MessageWriter& Set(std::string_view key, int64_t number);
  MessageWriter& Set(std::string_view key, uint32_t number) { return Set(key, uint64_t{number}); }
  MessageWriter& Set(std::string_view key, int number) { return Set(key, int64_t{number}); }
  MessageWriter& Set(std::string_view key, bool flag);

  // The finished header. Nothing may be set afterwards.
  const std::string& Finish();

 private:
  void Head(uint8_t major, uint64_t value);
  void Text(std::string_view text);
  std::string bytes_;
  bool finished_ = false;
};

// A parsed header. Its texts point into the bytes that it was parsed from.
class Message {
 public:
  // Nothing when the bytes are no such map, have more than kMaxFields fields or anything after the map.
  static std::optional<Message> Parse(std::string_view bytes);

  std::string_view type() const { return Text("t"); }
  // What a field holds; the default when it is missing or of another kind.
  std::string_view Text(std::string_view key) const;
  uint64_t Number(std::string_view key, uint64_t otherwise = 0) const;  // not negative
  int64_t Signed(std::string_view key, int64_t otherwise = 0) const;
  bool Flag(std::string_view key) const;
  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  static constexpr size_t kMaxFields = 24;

 private:
  enum class Kind : uint8_t { kUnsigned, kNegative, kText, kFlag };
  struct Field {
    std::string_view key;
    std::string_view text;
    uint64_t number = 0;  // kNegative: -1 - number
    Kind kind = Kind::kFlag;
  };
  const Field* Find(std::string_view key) const;

  std::array<Field, kMaxFields> fields_;
  size_t count_ = 0;
};

}  // namespace mayfly::internal::agent
