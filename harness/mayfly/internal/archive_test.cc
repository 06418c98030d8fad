#include <mayfly/internal/archive.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_archives.h>
#include <mayfly/internal/test_directory.h>

#include <map>
#include <string>

namespace mayfly::internal {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr uint64_t kLimit = 1 << 20;

class ArchiveTest : public testing::Test {
 protected:
  std::map<std::string, std::string> Read(const std::string& bytes) { return ReadWith(ReadArchive, bytes); }
  std::map<std::string, std::string> ReadDeb(const std::string& bytes) { return ReadWith(ReadDebPackage, bytes); }

  template <class Function>
  std::string Refusal(Function function) {
    try {
      function();
      return "no error";
    } catch (const BadSpec& error) {
      return error.text().summary;
    }
  }

  std::map<std::string, std::string> ReadWith(void (*read)(const std::filesystem::path&, const EntryVisitor&),
                                              const std::string& bytes) {
    WriteWholeFile(file_, bytes);
    std::map<std::string, std::string> files;
    read(file_, [&](const FileEntry& entry, FileContent& content) {
      files[entry.path] = ReadAll(content, entry.path, kLimit);
    });
    return files;
  }

  TestDirectory directory_;
  std::filesystem::path file_ = directory_ / "archive";
};

TEST_F(ArchiveTest, ReadsTheFilesOfATar) {
  EXPECT_THAT(Read(MakeTar({{"./a", "one"}, {"b/c", "two"}})), ElementsAre(Pair("a", "one"), Pair("b/c", "two")));
}

TEST_F(ArchiveTest, ReadsTheFilesOfADebianPackage) {
  EXPECT_THAT(ReadDeb(MakeDeb(MakeTar({{"./bin/true", "x"}}))), ElementsAre(Pair("bin/true", "x")));
}

TEST_F(ArchiveTest, APackageWithoutFilesIsRefused) {
  EXPECT_THAT(Refusal([&] { ReadDeb(MakeDeb("", "control.tar")); }),
              AllOf(HasSubstr(file_.native()), HasSubstr("is no Debian package: it has no data.tar")));
}

TEST_F(ArchiveTest, WhatIsNoArchiveIsRefused) {
  EXPECT_THAT(Refusal([&] { Read("certainly no archive"); }), HasSubstr(file_.native() + ": is damaged"));
  EXPECT_THAT(Refusal([&] { ReadDeb("certainly no package"); }), HasSubstr(file_.native() + ": is damaged"));
}

TEST_F(ArchiveTest, ATruncatedPackageIsRefused) {
  std::string deb = MakeDeb(MakeTar({{"a", std::string(4000, 'x')}}));
  EXPECT_THAT(Refusal([&] { ReadDeb(deb.substr(0, 2500)); }), HasSubstr("is damaged"));
}

TEST_F(ArchiveTest, PathsThatLeadOutAreRefused) {
  EXPECT_THAT(Refusal([&] { Read(MakeTar({{"a/../../etc/passwd", "x"}})); }),
              HasSubstr("\"a/../../etc/passwd\" is not allowed"));
}

TEST_F(ArchiveTest, FilesBeyondTheirLimitAreRefused) {
  StringContent content("12345");
  EXPECT_EQ(Refusal([&] { ReadAll(content, "file", 4); }), "file: is larger than 4B");
}

TEST_F(ArchiveTest, UnknownCompressionNamesItsFirstBytes) {
  EXPECT_EQ(
      Refusal([] { Decompress("\x12\x34\x56\x78 and so on", "kernel", kLimit); }),
      "kernel: is compressed in an unknown way (begins with 12 34 56 78); known: gzip, xz, zstd, lz4, bzip2, lzma");
}

}  // namespace
}  // namespace mayfly::internal
