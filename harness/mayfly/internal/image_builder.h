// How an image of a recipe is put together from cached parts: kernel, package files, root disk, initramfs.
//
//   ImageBuilder builder(cache_root, DataDirectory());
//   Image image = builder.Get("tiny", Reuse::kIfBuilt, progress);
//
// Each part is an entry of the cache of its own, so a new agent costs a new initramfs and not a new kernel.
#pragma once

#include <mayfly/image.h>
#include <mayfly/internal/entry_cache.h>
#include <mayfly/internal/file_tree.h>
#include <mayfly/internal/image_recipe.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::internal {

class ImageBuilder {
 public:
  ImageBuilder(const std::filesystem::path& cache, std::filesystem::path data);

  const RecipeBook& recipes() const { return recipes_; }

  // Throws what ImageStore::Find does.
  Image Get(std::string_view name, Reuse reuse, const Progress& progress) const;

  // The image's entry in the cache, when it is built.
  std::optional<EntryCache::Found> FindBuilt(std::string_view name) const;

 private:
  std::filesystem::path Kernel(const std::string& name, Reuse reuse, const Progress& progress) const;
  std::filesystem::path Package(const PackageFiles& wanted, Reuse reuse, const Progress& progress) const;
  std::filesystem::path RootDisk(const std::string& image, const ImageRecipe& recipe,
                                 const std::filesystem::path& kernel, Reuse reuse, const Progress& progress) const;
  FileTree Tree(const std::vector<std::string>& names, Reuse reuse, const Progress& progress) const;
  Image GetByRecipe(const std::string& name, const ImageRecipe& recipe, Reuse reuse, const Progress& progress) const;
  std::filesystem::path RecordOf(std::string_view name) const;
  std::string TreeKey(const std::vector<std::string>& names) const;
  std::string ImageKey(const ImageRecipe& recipe) const;

  EntryCache cache_;
  std::filesystem::path index_;  // of the cache
  std::filesystem::path data_;
  RecipeBook recipes_;
};

}  // namespace mayfly::internal
