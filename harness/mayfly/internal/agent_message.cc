#include <mayfly/internal/agent_message.h>

namespace mayfly::internal::agent {
namespace {

constexpr uint8_t kUnsigned = 0, kNegative = 1, kText = 3, kMap = 5, kSimple = 7;  // major types
constexpr char kOpenMap = '\xbf', kBreak = '\xff', kFalse = '\xf4', kTrue = '\xf5';
constexpr uint8_t kIndefinite = 31;

struct Head {
  uint8_t major = 0;
  uint8_t info = 0;
  uint64_t value = 0;
};

// Takes the head of an item off the front of `bytes`.
std::optional<Head> TakeHead(std::string_view& bytes) {
  if (bytes.empty()) return std::nullopt;
  auto first = static_cast<uint8_t>(bytes[0]);
  bytes.remove_prefix(1);
  Head head{.major = static_cast<uint8_t>(first >> 5), .info = static_cast<uint8_t>(first & 31)};
  if (head.info < 24) {
    head.value = head.info;
  } else if (head.info <= 27) {
    size_t length = size_t{1} << (head.info - 24);
    if (bytes.size() < length) return std::nullopt;
    for (size_t i = 0; i < length; ++i) head.value = head.value << 8 | static_cast<uint8_t>(bytes[i]);
    bytes.remove_prefix(length);
  } else if (head.info != kIndefinite) {
    return std::nullopt;
  }
  return head;
}

std::optional<std::string_view> TakeText(std::string_view& bytes, const Head& head) {
  if (head.info == kIndefinite || head.value > bytes.size()) return std::nullopt;
  std::string_view text = bytes.substr(0, head.value);
  bytes.remove_prefix(head.value);
  return text;
}

}  // namespace

MessageWriter::MessageWriter(std::string_view type) {
  bytes_.reserve(128);
  bytes_ += kOpenMap;
  Set("t", type);
}

void MessageWriter::Head(uint8_t major, uint64_t value) {
  auto first = static_cast<uint8_t>(major << 5);
  if (value < 24) {
    bytes_ += static_cast<char>(first | value);
    return;
  }
  int width = value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffff ? 2 : 3;
  bytes_ += static_cast<char>(first | (24 + width));
  for (int shift = (8 << width) - 8; shift >= 0; shift -= 8) bytes_ += static_cast<char>(value >> shift);
}

void MessageWriter::Text(std::string_view text) {
  Head(kText, text.size());
  bytes_ += text;
}

MessageWriter& MessageWriter::Set(std::string_view key, std::string_view text) {
  Text(key);
  Text(text);
  return *this;
}

MessageWriter& MessageWriter::Set(std::string_view key, uint64_t number) {
  Text(key);
  Head(kUnsigned, number);
  return *this;
}

MessageWriter& MessageWriter::Set(std::string_view key, int64_t number) {
  Text(key);
  number < 0 ? Head(kNegative, ~static_cast<uint64_t>(number)) : Head(kUnsigned, static_cast<uint64_t>(number));
  return *this;
}

MessageWriter& MessageWriter::Set(std::string_view key, bool flag) {
  Text(key);
  bytes_ += flag ? kTrue : kFalse;
  return *this;
}

const std::string& MessageWriter::Finish() {
  if (!finished_) bytes_ += kBreak;
  finished_ = true;
  return bytes_;
}

std::optional<Message> Message::Parse(std::string_view bytes) {
  std::optional<struct Head> map = TakeHead(bytes);
  if (!map || map->major != kMap) return std::nullopt;
  bool open = map->info == kIndefinite;
  Message message;
  for (uint64_t i = 0; open || i < map->value; ++i) {
    if (open && !bytes.empty() && bytes[0] == kBreak) {
      bytes.remove_prefix(1);
      break;
    }
    if (message.count_ == kMaxFields) return std::nullopt;
    Field& field = message.fields_[message.count_++];
    auto key_head = TakeHead(bytes);
    if (!key_head || key_head->major != kText) return std::nullopt;
    auto key = TakeText(bytes, *key_head);
    auto head = TakeHead(bytes);
    if (!key || !head || head->info == kIndefinite) return std::nullopt;
    field.key = *key;
    field.number = head->value;
    if (head->major == kUnsigned || head->major == kNegative) {
      field.kind = head->major == kUnsigned ? Kind::kUnsigned : Kind::kNegative;
    } else if (head->major == kText) {
      auto text = TakeText(bytes, *head);
      if (!text) return std::nullopt;
      field.kind = Kind::kText;
      field.text = *text;
    } else if (head->major == kSimple && (head->info == 20 || head->info == 21)) {
      field.kind = Kind::kFlag;
      field.number = head->info == 21 ? 1 : 0;
    } else {
      return std::nullopt;
    }
  }
  if (!bytes.empty()) return std::nullopt;
  return message;
}

const Message::Field* Message::Find(std::string_view key) const {
  for (size_t i = 0; i < count_; ++i) {
    if (fields_[i].key == key) return &fields_[i];
  }
  return nullptr;
}

std::string_view Message::Text(std::string_view key) const {
  const Field* field = Find(key);
  return field != nullptr && field->kind == Kind::kText ? field->text : std::string_view();
}

uint64_t Message::Number(std::string_view key, uint64_t otherwise) const {
  const Field* field = Find(key);
  return field != nullptr && field->kind == Kind::kUnsigned ? field->number : otherwise;
}

int64_t Message::Signed(std::string_view key, int64_t otherwise) const {
  const Field* field = Find(key);
  if (field == nullptr || field->number > INT64_MAX) return otherwise;
  if (field->kind == Kind::kUnsigned) return static_cast<int64_t>(field->number);
  if (field->kind == Kind::kNegative) return -1 - static_cast<int64_t>(field->number);
  return otherwise;
}

bool Message::Flag(std::string_view key) const {
  const Field* field = Find(key);
  return field != nullptr && field->kind == Kind::kFlag && field->number == 1;
}

}  // namespace mayfly::internal::agent
