// An HTTP answer of Cloud Hypervisor, read from bytes as they come.
//
//   AnswerParser parser(16 << 20);
//   while (!parser.done()) parser.Feed(Receive());          // parser.End() when the connection ends
//   Answer answer = parser.Take();
//
// What the other side sends is bounded: headers by kMaxHeader, the body by what the constructor is given. Anything that
// is no HTTP answer throws BadAnswer. The one liberty: the answer to an eleventh connection, "HTTP/1.1 503", which
// lacks the space and reason that HTTP asks for.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace mayfly::ch {

struct Answer {
  unsigned status = 0;
  std::string body{};
  bool keep_alive = false;  // the connection may carry another request
};

class AnswerParser {
 public:
  static constexpr size_t kMaxHeader = size_t{8} << 10;

  explicit AnswerParser(size_t max_body);
  ~AnswerParser();
  AnswerParser(const AnswerParser&) = delete;
  AnswerParser& operator=(const AnswerParser&) = delete;

  // Takes the next bytes. What comes behind the answer is an error: nothing else was asked for.
  void Feed(std::string_view bytes);
  // The connection has ended: throws BadAnswer, which tells how far the answer came, unless that completes it.
  void End();

  bool done() const;
  bool begun() const;  // any byte of it has come
  // Once done.
  Answer Take();

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace mayfly::ch
