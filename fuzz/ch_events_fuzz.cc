// Any bytes give the same events, and as many skipped pieces, whether they come at once or in pieces (the first byte is
// the size of a piece).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <vector>

#include "drivers/ch/event_stream.h"

namespace ch = mayfly::ch;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  size_t piece = size_t{data[0]} + 1;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  ch::EventStream whole;
  std::vector<ch::VmmEvent> events = whole.Feed(bytes);
  ch::EventStream pieces;
  std::vector<ch::VmmEvent> again;
  for (std::string_view rest = bytes; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
    std::vector<ch::VmmEvent> some = pieces.Feed(rest.substr(0, piece));
    std::move(some.begin(), some.end(), std::back_inserter(again));
  }
  if (events != again || whole.skipped() != pieces.skipped()) std::abort();
  return 0;
}
