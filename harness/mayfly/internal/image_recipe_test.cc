#include <mayfly/internal/image_recipe.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <filesystem>
#include <string>

namespace mayfly::internal {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

class RecipeTest : public testing::Test {
 protected:
  void Put(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((directory_ / file).parent_path());
    WriteWholeFile(directory_ / file, text);
  }
  // The refusal, with the directory shortened to DIR.
  template <class Function>
  std::string Refusal(Function read) {
    try {
      read();
      return "no error";
    } catch (const BadSpec& error) {
      std::string text = error.text().summary;
      for (size_t at; (at = text.find(directory_.path())) != std::string::npos;) {
        text.replace(at, directory_.path().native().size(), "DIR");
      }
      return text;
    }
  }
  std::string ImageRefusal(const std::string& text) {
    Put("mine.json", text);
    return Refusal([&] { book_.Image("mine"); });
  }

  TestDirectory directory_;
  RecipeBook book_{directory_.path()};
};

TEST_F(RecipeTest, IsReadFromJson) {
  Put("mine.json", R"({"description": "d", "kernel": "k", "initramfs": {"trees": ["t"], "modules": ["*"]},
                       "root_disk": {"size": "64MiB", "trees": ["t"]}, "command_line": ["a", "b"]})");
  ImageRecipe recipe = book_.Image("mine");
  EXPECT_EQ(recipe.kernel, "k");
  EXPECT_THAT(recipe.initramfs.trees, ElementsAre("t"));
  EXPECT_EQ(recipe.root_disk->size, Bytes(64 << 20));
  EXPECT_THAT(recipe.command_line, ElementsAre("a", "b"));
  EXPECT_THAT(book_.ImageNames(), ElementsAre("mine"));
}

TEST_F(RecipeTest, FaultsNameFileAndField) {
  EXPECT_EQ(ImageRefusal("{}"), "DIR/mine.json: kernel: is missing; allowed: the name of a kernel recipe");
  EXPECT_EQ(ImageRefusal(R"({"kernle": "k"})"), "DIR/mine.json: unknown key \"kernle\"; did you mean \"kernel\"?");
  EXPECT_EQ(ImageRefusal(R"({"kernel": 7})"), "DIR/mine.json: kernel: 7 is not allowed; allowed: a string");
  EXPECT_EQ(ImageRefusal(R"({"kernel": "k", "root_disk": {"size": "1MiB"}})"),
            "DIR/mine.json: root_disk.size: \"1MiB\" is not allowed; allowed: 8MiB and more");
  EXPECT_EQ(ImageRefusal(R"({"kernel": "k", "root_disk": {"size": "1GiB", "bootstrap": {}}})"),
            "DIR/mine.json: root_disk.bootstrap.suite: is missing; allowed: a Debian suite, such as \"bookworm\"");
  EXPECT_THAT(ImageRefusal("{"), HasSubstr("DIR/mine.json: is not JSON: line 1, column 2"));
}

TEST_F(RecipeTest, AnUnknownNameIsToldWithTheNearest) {
  Put("tiny.json", "{}");
  Put("debian.json", "{}");
  EXPECT_EQ(Refusal([&] { book_.Image("tniy"); }), "there is no image \"tniy\"; did you mean \"tiny\"?");
  EXPECT_EQ(Refusal([&] { book_.Kernel("cloud"); }), "there is no kernel recipe \"cloud\"");
}

TEST_F(RecipeTest, ModesAreOctal) {
  EXPECT_EQ(ModeFromText("4755", 0, "t"), 04755U);
  EXPECT_EQ(ModeFromText("", 0644, "t"), 0644U);
  EXPECT_EQ(Refusal([] { ModeFromText("rwx", 0, "t"); }),
            "t: mode: \"rwx\" is not allowed; allowed: octal permission bits, such as \"0755\"");
}

TEST(Recipes, OfMayflyAreSound) {
  RecipeBook book(DataDirectory() / "images");
  EXPECT_THAT(book.ImageNames(), Contains("tiny"));
  for (const std::string& name : book.ImageNames()) {
    ImageRecipe image = book.Image(name);
    EXPECT_FALSE(image.description.empty()) << name;
    EXPECT_FALSE(book.Kernel(image.kernel).boot_modules.empty()) << name;
    for (const std::string& tree : image.initramfs.trees) book.Tree(tree);
    if (!image.root_disk) continue;
    for (const std::string& tree : image.root_disk->trees) book.Tree(tree);
  }
}

}  // namespace
}  // namespace mayfly::internal
