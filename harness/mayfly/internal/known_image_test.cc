#include <mayfly/internal/known_image.h>

#include <gtest/gtest.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/test_directory.h>

#include <functional>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

class KnownImageTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(entry_);
    fs::create_directories(entry_);
    WriteWholeFile(image_.kernel, "kernel");
    WriteWholeFile(image_.initramfs, "initramfs");
    WriteManifest(entry_, {{"name", "tiny"}});
    WriteWholeFile(recipe_, "recipe");
    ImageInputs inputs;
    inputs.Add(recipe_);
    RememberImage(record_, image_, inputs);
  }

  TestDirectory directory_;
  fs::path entry_ = directory_ / "tiny-0d1f";
  fs::path recipe_ = directory_ / "tiny.json";
  fs::path record_ = directory_ / "known";
  Image image_{.name = "tiny",
               .hash = "0d1f",
               .kernel = entry_ / "vmlinux",
               .initramfs = entry_ / "initramfs.cpio",
               .command_line = "quiet",
               .agent = false};
};

TEST_F(KnownImageTest, IsAsItWasRemembered) {
  std::optional<Image> known = FindKnownImage(record_);
  ASSERT_TRUE(known);
  EXPECT_EQ(known->name, "tiny");
  EXPECT_EQ(known->hash, "0d1f");
  EXPECT_EQ(known->kernel, image_.kernel);
  EXPECT_EQ(known->packaged_kernel, "");
  EXPECT_EQ(known->initramfs, image_.initramfs);
  EXPECT_EQ(known->root_disk, "");
  EXPECT_EQ(known->command_line, "quiet");
  EXPECT_FALSE(known->agent);
}

TEST_F(KnownImageTest, IsForgottenWithEachChangeOfWhatMadeIt) {
  const std::function<void()> changes[] = {[&] { WriteWholeFile(recipe_, "another recipe"); },
                                           [&] { fs::remove(recipe_); },
                                           [&] { WriteWholeFile(image_.kernel, "another kernel"); },
                                           [&] { fs::remove_all(entry_); },
                                           [&] { WriteWholeFile(record_, "{\"inputs\": "); },
                                           [&] { WriteWholeFile(record_, "[]"); },
                                           [&] { WriteWholeFile(record_, R"({"inputs": {}, "image": {"name": 7}})"); },
                                           [&] { fs::remove(record_); }};
  for (const auto& change : changes) {
    SetUp();
    ASSERT_TRUE(FindKnownImage(record_));
    change();
    EXPECT_FALSE(FindKnownImage(record_)) << &change - changes;
  }
}

TEST_F(KnownImageTest, IsNotWhatWasReadBeforeAChange) {
  ImageInputs inputs;
  inputs.Add(recipe_);
  WriteWholeFile(recipe_, "changed while the image was built");
  RememberImage(record_, image_, inputs);
  EXPECT_FALSE(FindKnownImage(record_));
}

TEST_F(KnownImageTest, CannotBeRememberedWhereNothingCanBeWrittenAndThatIsAll) {
  RememberImage(directory_ / "missing" / "known", image_, {});
  EXPECT_FALSE(fs::exists(directory_ / "missing"));
  fs::create_directories(directory_ / "taken" / "by a directory");
  RememberImage(directory_ / "taken", image_, {});
  EXPECT_TRUE(fs::is_empty(directory_ / "taken" / "by a directory"));
  for (const auto& file : fs::directory_iterator(directory_.path())) {
    EXPECT_FALSE(file.path().filename().native().starts_with("taken.")) << "a draft was left";
  }
}

}  // namespace
}  // namespace mayfly::internal
