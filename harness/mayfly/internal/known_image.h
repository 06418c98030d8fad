// An image that was found before, and the files that made it the one.
//
//   if (std::optional<Image> known = FindKnownImage(record)) return *known;
//   ImageInputs inputs;
//   inputs.Add(recipe);                          // before it is read, so that no change of it goes unseen
//   …read the recipe, hash the agent…            // a millisecond, in the process of each test
//   RememberImage(record, image, inputs);
//
// It is the one still while all of them are as they were, by size, time and inode, and its own files are undamaged (see
// entry_manifest.h). Thread- and process-safe.
#pragma once

#include <mayfly/image.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace mayfly::internal {

struct ImageInputs {
  void Add(const std::filesystem::path& file);
  std::map<std::string, std::string> stamps{};  // by file
};

// Nothing when it has to be found anew.
std::optional<Image> FindKnownImage(const std::filesystem::path& record);

// `image` has all of its files in one directory. A record that cannot be written costs the next one its time.
void RememberImage(const std::filesystem::path& record, const Image& image, const ImageInputs& inputs);

}  // namespace mayfly::internal
