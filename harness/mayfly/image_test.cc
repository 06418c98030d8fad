#include <mayfly/image.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <cstdlib>
#include <optional>
#include <string>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::ReadWholeFile;
using internal::TestDirectory;
using internal::WriteWholeFile;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 26;

// Sets a variable of this process, and puts it back.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;  // NOLINT(concurrency-mt-unsafe): one thread
    setenv(name, value.c_str(), 1);                       // NOLINT(concurrency-mt-unsafe)
  }
  ~Variable() {
    if (old_) setenv(name_, old_->c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    if (!old_) unsetenv(name_);                 // NOLINT(concurrency-mt-unsafe)
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

template <class ErrorType, class Function>
ErrorText Caught(Function function) {
  try {
    function();
  } catch (const ErrorType& error) {
    return error.text();
  }
  return {.summary = "no error", .notes = {}, .next_step = {}};
}

TEST(ImageStore, ACacheThatCannotBeWrittenNamesPathAndVariable) {
  TestDirectory directory;
  WriteWholeFile(directory / "file", "");
  Variable cache("MAYFLY_CACHE_DIR", directory / "file");
  ErrorText told = Caught<BadSpec>([] { ImageStore(); });
  EXPECT_THAT(told.summary, HasSubstr((directory / "file/images").native() + " is not writable"));
  EXPECT_THAT(told.notes, ElementsAre("its place comes from MAYFLY_CACHE_DIR"));
}

TEST(ImageStore, AnUnknownImageIsToldWithTheNearestName) {
  TestDirectory directory;
  Variable cache("MAYFLY_CACHE_DIR", directory.path());
  ErrorText told = Caught<BadSpec>([] { ImageStore().Find("tinny"); });
  EXPECT_EQ(told.summary, "there is no image \"tinny\"; did you mean \"tiny\"?");
}

TEST(ImageStore, ListsRecipesThatAreNotBuilt) {
  TestDirectory directory;
  Variable cache("MAYFLY_CACHE_DIR", directory.path());
  std::vector<ImageInfo> images = ImageStore().List();
  ASSERT_FALSE(images.empty());
  for (const ImageInfo& image : images) EXPECT_FALSE(image.built) << image.name;
}

TEST(ImageStore, MissingDataIsToldWithWhereItWasLookedFor) {
  TestDirectory directory;
  Variable data("MAYFLY_DATA_DIR", directory.path());
  ErrorText told = Caught<HostLacks>([] { DataDirectory(); });
  EXPECT_THAT(told.notes, ElementsAre("looked for " + (directory / "images").native()));
}

TEST(ResolveImage, LeavesASpecWithoutImageAsItIs) {
  MachineSpec spec{.image = ""};
  EXPECT_EQ(ResolveImage(spec), spec);
}

TEST(BuildInitramfs, AppendsToItsBaseAtAMultipleOfFour) {
  TestDirectory directory;
  fs::create_directory(directory / "in");
  WriteWholeFile(directory / "in/file", "x");
  WriteWholeFile(directory / "base", "12345");
  BuildInitramfsFromDirectory(directory / "in", directory / "alone");
  BuildInitramfsFromDirectory(directory / "in", directory / "both", directory / "base");
  std::string alone = ReadWholeFile(directory / "alone", kLimit);
  EXPECT_EQ(alone.substr(0, 6), "070701");
  EXPECT_EQ(ReadWholeFile(directory / "both", kLimit), std::string("12345\0\0\0", 8) + alone);
  EXPECT_THROW(BuildInitramfsFromDirectory(directory / "missing", directory / "out"), BadSpec);
}

}  // namespace
}  // namespace mayfly
