
#include <mayfly/errors.h>

#include <utility>

namespace mayfly {
namespace {

std::string Render(const ErrorText& text) {
  std::string out = "mayfly: " + text.summary;
  auto append_line = [&out](const std::string& line) {
    if (line.empty()) return;
    out += "\n  ";
    for (char c : line) {
      out += c;
      if (c == '\n') out += "  ";
    }
  };
  for (const std::string& note : text.notes) append_line(note);
  append_line(text.next_step);
  return out;
}

}  // namespace

Error::Error(ErrorText text) : text_(std::move(text)), what_(Render(text_)) {}

void Error::AddNote(std::string note) {
  text_.notes.push_back(std::move(note));
  what_ = Render(text_);
}

Unsupported::Unsupported(Capability capability, std::string driver, std::string reason)
    : Error({.summary = "'" + driver + "' has no " + std::string(Title(capability)) + " (" +
                        std::string(ToString(capability)) + ")",
             .notes = {reason},
             .next_step = "`mayfly matrix show` lists what each backend can do"}),
      capability_(capability),
      driver_(std::move(driver)),
      reason_(std::move(reason)) {}

}  // namespace mayfly
