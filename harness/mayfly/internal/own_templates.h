// A cache with the usual images and templates of its own, for tests that make templates nobody needs afterwards.
//
//   TestDirectory directory;
//   TemplateStore store = UseOwnTemplates(directory / "cache");     // until MAYFLY_CACHE_DIR is unset
#pragma once

#include <mayfly/image.h>
#include <mayfly/internal/template_store.h>

#include <cstdlib>
#include <filesystem>

namespace mayfly::internal {

inline TemplateStore UseOwnTemplates(const std::filesystem::path& cache) {
  std::filesystem::path usual = ImageStore().directory();
  std::filesystem::create_directories(cache / "images");
  for (const auto& entry : std::filesystem::directory_iterator(usual)) {
    if (entry.path().filename() == "templates") continue;
    std::filesystem::create_symlink(entry.path(), cache / "images" / entry.path().filename());
  }
  setenv("MAYFLY_CACHE_DIR", cache.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): tests have one thread here
  return TemplateStore();
}

}  // namespace mayfly::internal
