// mayfly image, with caches in which nothing is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/mayfly_fixture.h"

namespace mayfly::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsSupersetOf;

std::vector<std::string> Names(const json& list) {
  std::vector<std::string> names;
  for (const json& entry : list) names.push_back(entry.at("name"));
  return names;
}

// A cache of images without anything in it.
class EmptyCache : public testing::Test {
 protected:
  Outcome Run(std::vector<std::string> words, const std::string& cache = "cache") {
    return RunMayfly(std::move(words), {.environment = {{"MAYFLY_CACHE_DIR", directory_ / cache}}});
  }
  internal::TestDirectory directory_;
};

TEST_F(EmptyCache, ImagesAreListedBeforeTheyAreBuilt) {
  Outcome outcome = Run({"image", "list"});
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("debian        not built"), HasSubstr("tiny          not built")));
  json list = json::parse(Run({"image", "list", "--json"}).out);
  EXPECT_THAT(Names(list), IsSupersetOf({"debian", "tiny", "tiny-disk"}));
  for (const json& image : list) EXPECT_FALSE(image.at("built").get<bool>());
  EXPECT_THAT(Run({"image", "list", "-q"}).out, HasSubstr("tiny\n"));
}

TEST_F(EmptyCache, AnImageThatIsNotBuiltIsShownWithWhatBuildsIt) {
  EXPECT_THAT(Run({"image", "show", "tiny"}).out, HasSubstr("build it: mayfly image build tiny\n"));
  json shown = json::parse(Run({"image", "show", "tiny", "--json"}).out);
  EXPECT_EQ(shown.at("name"), "tiny");
  EXPECT_FALSE(shown.contains("kernel"));
}

TEST_F(EmptyCache, ThatIsAFileIsToldWithTheVariable) {
  internal::WriteWholeFile(directory_ / "file", "");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"image", "list"}, {"image", "build", "tiny"}}) {
    Outcome outcome = Run(words, "file");
    EXPECT_EQ(outcome.status.code, kFailed);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("the cache of images"), HasSubstr("is not writable: Not a directory"),
                                   HasSubstr("its place comes from MAYFLY_CACHE_DIR")));
  }
  Outcome run = Run({"run", "--", "true"}, "file");
  EXPECT_EQ(run.status.code, kRunFailed);
  EXPECT_THAT(run.err, HasSubstr("is not writable: Not a directory"));
}

}  // namespace
}  // namespace mayfly::cli
