#include <mayfly/bytes.h>

#include <gtest/gtest.h>

namespace mayfly {
namespace {

using literals::operator""_MiB;
using literals::operator""_TiB;

TEST(Bytes, ReadsNumbersWithUnits) {
  EXPECT_EQ(Bytes::Parse("512MiB"), 512_MiB);
  EXPECT_EQ(Bytes::Parse("512M"), 512_MiB);
  EXPECT_EQ(Bytes::Parse("1.5GiB"), 1536_MiB);
  EXPECT_EQ(Bytes::Parse("4097"), Bytes(4097));
  EXPECT_EQ(Bytes::Parse("0B"), Bytes());
}

TEST(Bytes, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "MiB", "12 MiB", "-1", "1e3", "12QiB", "16777216TiB", "0.3B", "1..5G", ".", "1.5.5G", "nan"}) {
    EXPECT_FALSE(Bytes::Parse(text)) << text;
  }
}

TEST(Bytes, PrintsWhatItReadsBack) {
  for (uint64_t count : {uint64_t{0}, uint64_t{1}, uint64_t{1023}, uint64_t{1024}, uint64_t{1} << 40, UINT64_MAX}) {
    EXPECT_EQ(Bytes::Parse(ToString(Bytes(count))), Bytes(count)) << ToString(Bytes(count));
  }
  EXPECT_EQ(ToString(3_TiB), "3TiB");
  EXPECT_EQ(ForPeople(Bytes(25125558681)), "23.4 GiB");
}

}  // namespace
}  // namespace mayfly
