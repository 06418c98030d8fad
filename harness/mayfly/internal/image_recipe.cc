#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/image_recipe.h>
#include <mayfly/internal/json_reader.h>
#include <mayfly/internal/nearest.h>

#include <algorithm>
#include <charconv>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestRecipe = 1 << 20;

std::vector<std::string> NamesIn(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& file : fs::directory_iterator(directory, error)) {
    if (file.path().extension() == ".json") names.push_back(file.path().stem().native());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The path of a recipe's file. Throws BadSpec with the nearest name.
fs::path FindRecipe(const fs::path& directory, std::string_view what, std::string_view name) {
  std::vector<std::string> names = NamesIn(directory);
  if (std::find(names.begin(), names.end(), name) != names.end()) return directory / fmt::format("{}.json", name);
  std::vector<std::string_view> known(names.begin(), names.end());
  throw BadSpec({.summary = fmt::format("there is no {} {}{}", what, Quoted(name), DidYouMean(name, known)),
                 .notes = {},
                 .next_step = fmt::format("recipes are in {}", directory.native())});
}

void RequireText(const SpecPath& path, const std::string& value, std::string_view allowed) {
  if (value.empty()) path.Refuse("is missing", allowed);
}

}  // namespace

std::vector<std::string> RecipeBook::ImageNames() const { return NamesIn(directory_); }

fs::path RecipeBook::FileOfImage(std::string_view name) const { return FindRecipe(directory_, "image", name); }

fs::path RecipeBook::FileOfKernel(std::string_view name) const {
  return FindRecipe(directory_ / "kernels", "kernel recipe", name);
}

fs::path RecipeBook::FileOfTree(std::string_view name) const {
  return FindRecipe(directory_ / "trees", "file tree", name);
}

ImageRecipe RecipeBook::Image(std::string_view name) const {
  fs::path file = FileOfImage(name);
  SpecPath at(file.native());
  std::string source = ReadWholeFile(file, kLargestRecipe);
  auto recipe = ReadJson<ImageRecipe>(at, source);
  recipe.source = std::move(source);
  RequireText(at.Key("kernel"), recipe.kernel, "the name of a kernel recipe");
  if (recipe.root_disk && recipe.root_disk->size < Bytes(8 << 20)) {
    at.Key("root_disk")
        .Key("size")
        .Refuse(Quoted(ToString(recipe.root_disk->size)) + " is not allowed", "8MiB and more");
  }
  if (recipe.root_disk && recipe.root_disk->bootstrap) {
    RequireText(at.Key("root_disk").Key("bootstrap").Key("suite"), recipe.root_disk->bootstrap->suite,
                "a Debian suite, such as \"bookworm\"");
  }
  return recipe;
}

KernelRecipe RecipeBook::Kernel(std::string_view name) const {
  fs::path file = FileOfKernel(name);
  std::string source = ReadWholeFile(file, kLargestRecipe);
  auto recipe = ReadJson<KernelRecipe>(SpecPath(file.native()), source);
  recipe.source = std::move(source);
  RequireText(SpecPath(file.native()).Key("package"), recipe.package, "a Debian package");
  return recipe;
}

TreeRecipe RecipeBook::Tree(std::string_view name) const {
  fs::path file = FileOfTree(name);
  std::string source = ReadWholeFile(file, kLargestRecipe);
  auto recipe = ReadJson<TreeRecipe>(SpecPath(file.native()), source);
  recipe.source = std::move(source);
  return recipe;
}

uint32_t ModeFromText(const std::string& text, uint32_t otherwise, std::string_view where) {
  if (text.empty()) return otherwise;
  uint32_t mode = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc() || end != text.data() + text.size() || mode > 07777) {
    SpecPath(where).Key("mode").Refuse(Quoted(text) + " is not allowed", "octal permission bits, such as \"0755\"");
  }
  return mode;
}

}  // namespace mayfly::internal
