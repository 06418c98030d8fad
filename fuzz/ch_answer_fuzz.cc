// Any bytes are either an answer of Cloud Hypervisor's API or refused with BadAnswer, however they are cut into pieces
// (the first byte is the size of a piece); what a config was read from comes back from its JSON.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "drivers/ch/answer.h"
#include "drivers/ch/api_error.h"
#include "drivers/ch/config.h"

namespace ch = mayfly::ch;

namespace {

constexpr size_t kMaxBody = size_t{1} << 16;

template <class Function>
void MayRefuse(Function function) {
  try {
    function();
  } catch (const ch::BadAnswer& error) {
    if (std::string_view(error.what()).size() > 2'000) std::abort();
    (void)nlohmann::json(error.what()).dump();  // throws when it is no UTF-8
  }
}

void ReadBody(const std::string& body) {
  ch::ApiError refusal("vm.fuzz", 500, ch::ErrorChain(body));
  (void)nlohmann::json(refusal.what()).dump();
  MayRefuse([&] { (void)ch::PingFromJson(body); });
  MayRefuse([&] { (void)ch::PciDeviceFromJson(body); });
  MayRefuse([&] { (void)ch::CountersFromJson(body); });
  MayRefuse([&] {
    ch::VmConfig config = ch::VmInfoFromJson(body).config;
    if (ch::VmConfigFromJson(ch::ToJson(config).dump()) != config) std::abort();
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  size_t piece = size_t{data[0]} + 1;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  MayRefuse([&] {
    ch::AnswerParser parser(kMaxBody);
    for (std::string_view rest = bytes; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
      parser.Feed(rest.substr(0, piece));
    }
    if (!parser.done()) parser.End();
    ch::Answer answer = parser.Take();
    if (answer.body.size() > kMaxBody) std::abort();
    ReadBody(answer.body);
  });
  ReadBody(std::string(bytes));
  return 0;
}
