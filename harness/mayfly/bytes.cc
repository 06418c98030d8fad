#include <mayfly/bytes.h>

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace mayfly {
namespace {

struct Unit {
  std::string_view name;
  int shift;
};
constexpr std::array kUnits = {Unit{"TiB", 40}, Unit{"GiB", 30}, Unit{"MiB", 20}, Unit{"KiB", 10}, Unit{"B", 0},
                               Unit{"T", 40},   Unit{"G", 30},   Unit{"M", 20},   Unit{"K", 10},   Unit{"", 0}};

}  // namespace

std::optional<Bytes> Bytes::Parse(std::string_view text) {
  size_t digits = text.find_first_not_of("0123456789.");
  std::string_view number = text.substr(0, digits);
  std::string_view unit = digits == std::string_view::npos ? "" : text.substr(digits);
  for (const Unit& candidate : kUnits) {
    if (candidate.name != unit) continue;
    if (number.find('.') == std::string_view::npos) {
      uint64_t count = 0;
      auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), count);
      if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
      if (count > (UINT64_MAX >> candidate.shift)) return std::nullopt;
      return Bytes(count << candidate.shift);
    }
    double value = 0;
    auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
    double count = std::ldexp(value, candidate.shift);
    if (count >= 0x1p53 || count != std::floor(count)) return std::nullopt;
    return Bytes(static_cast<uint64_t>(count));
  }
  return std::nullopt;
}

std::string ToString(Bytes bytes) {
  for (const Unit& unit : kUnits) {
    uint64_t mask = (uint64_t{1} << unit.shift) - 1;
    if (unit.shift == 0 || (bytes.count() != 0 && (bytes.count() & mask) == 0)) {
      return fmt::format("{}{}", bytes.count() >> unit.shift, unit.name);
    }
  }
  return {};
}

std::string ForPeople(Bytes bytes) {
  for (const Unit& unit : kUnits) {
    if (unit.shift == 0) break;
    double value = std::ldexp(static_cast<double>(bytes.count()), -unit.shift);
    if (value >= 1) return fmt::format("{:.3g} {}", value, unit.name);
  }
  return fmt::format("{} B", bytes.count());
}

}  // namespace mayfly
