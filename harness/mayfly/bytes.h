// Amounts of memory and disk space.
//
// Every size in mayfly's interface is a `Bytes`, so a unit can neither be forgotten nor mixed up:
//
//   using mayfly::literals::operator""_MiB;
//   MachineSpec spec{.memory = 512_MiB};
//   Bytes::Parse("1.5GiB").value() == Bytes(1610612736);
//   ToString(Bytes(536870912)) == "512MiB";
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

class Bytes {
 public:
  constexpr Bytes() = default;
  constexpr explicit Bytes(uint64_t count) : count_(count) {}

  constexpr uint64_t count() const { return count_; }
  constexpr uint64_t MiB() const { return count_ >> 20; }

  friend constexpr auto operator<=>(Bytes, Bytes) = default;
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return Bytes(a.count_ + b.count_); }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return Bytes(a.count_ - b.count_); }
  friend constexpr Bytes operator*(Bytes a, uint64_t n) { return Bytes(a.count_ * n); }

  // Reads a non-negative number with one of the units B, K, KiB, M, MiB, G, GiB, T, TiB (all powers of 1024) or none
  // (bytes). Nothing for anything else, and for what does not fit in 64 bits or is no whole number of bytes.
  static std::optional<Bytes> Parse(std::string_view text);

 private:
  uint64_t count_ = 0;
};

// The largest unit that gives a whole number: "512MiB", "1GiB", "4097B". `Parse` reads it back exactly.
std::string ToString(Bytes bytes);

// For people: three significant digits, "23.4 GiB".
std::string ForPeople(Bytes bytes);

namespace literals {
consteval Bytes operator""_B(unsigned long long n) { return Bytes(n); }
consteval Bytes operator""_KiB(unsigned long long n) { return Bytes(n << 10); }
consteval Bytes operator""_MiB(unsigned long long n) { return Bytes(n << 20); }
consteval Bytes operator""_GiB(unsigned long long n) { return Bytes(n << 30); }
consteval Bytes operator""_TiB(unsigned long long n) { return Bytes(n << 40); }
}  // namespace literals

}  // namespace mayfly
