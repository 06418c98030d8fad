#include "drivers/ch/answer.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "drivers/ch/api_error.h"

namespace mayfly::ch {

namespace http = boost::beast::http;

class AnswerParser::State {
 public:
  explicit State(size_t max_body) : max_body_(max_body) {
    parser_.eager(true);
    parser_.header_limit(kMaxHeader);
    parser_.body_limit(max_body);
  }

  void Feed(std::string_view bytes) {
    received_ += bytes.size();
    if (parser_.is_done()) Refuse("more than one answer");
    pending_.append(bytes);
    if (!status_line_seen_ && !SeeStatusLine()) return;
    while (!pending_.empty() && !parser_.is_done()) {
      boost::beast::error_code error;
      size_t used = parser_.put(boost::asio::buffer(pending_), error);
      pending_.erase(0, used);
      if (error == http::error::need_more) {
        if (used == 0) return;
      } else if (error == http::error::body_limit) {
        throw BadAnswer({.summary = fmt::format("Cloud Hypervisor's answer has more than the {} bytes that are read of "
                                                "one",
                                                max_body_)});
      } else if (error) {
        Refuse(error.message());
      }
    }
    if (!pending_.empty()) Refuse("more than one answer");
  }

  void End() {
    boost::beast::error_code error;
    if (parser_.got_some()) parser_.put_eof(error);
    if (parser_.is_done()) return;
    auto length = parser_.is_header_done() ? parser_.content_length() : boost::none;
    throw BadAnswer({.summary = fmt::format(
                         "Cloud Hypervisor closed the connection in the middle of an answer, after {} bytes{}",
                         received_, length ? fmt::format("; its body was to have {}", *length) : std::string())});
  }

  http::response_parser<http::string_body> parser_;
  size_t received_ = 0;

 private:
  // Completes a status line that ends with its code. False: there is no whole line yet.
  bool SeeStatusLine() {
    constexpr size_t kBareLength = std::string_view("HTTP/1.1 503").size();
    size_t end = pending_.find("\r\n");
    if (end == std::string::npos) {
      if (pending_.size() > kMaxHeader) Refuse("the first line has no end");
      return false;
    }
    status_line_seen_ = true;
    if (end == kBareLength) pending_.insert(end, " ");
    return true;
  }

  [[noreturn]] void Refuse(const std::string& why) const {
    throw BadAnswer(
        {.summary = fmt::format("what Cloud Hypervisor sent is no HTTP answer ({}): '{}'", why, Excerpt(pending_))});
  }

  const size_t max_body_;
  std::string pending_;  // received and not parsed yet
  bool status_line_seen_ = false;
};

AnswerParser::AnswerParser(size_t max_body) : state_(std::make_unique<State>(max_body)) {}
AnswerParser::~AnswerParser() = default;

void AnswerParser::Feed(std::string_view bytes) { state_->Feed(bytes); }
void AnswerParser::End() { state_->End(); }
bool AnswerParser::done() const { return state_->parser_.is_done(); }
bool AnswerParser::begun() const { return state_->received_ > 0; }

Answer AnswerParser::Take() {
  auto& message = state_->parser_.get();
  return {.status = message.result_int(), .body = std::move(message.body()), .keep_alive = message.keep_alive()};
}

}  // namespace mayfly::ch
