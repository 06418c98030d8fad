// Directories that are built once and kept by their contents' identity.
//
//   EntryCache cache(root);
//   std::filesystem::path entry = cache.Get({.name = "tiny",
//                                            .key = hash_of_recipe_and_agent,
//                                            .inputs = [] { return packages; },
//                                            .build = [](const BuildPlace& place) { … files into place.entry … }},
//                                           Reuse::kIfBuilt, progress);
//
// An entry is <root>/<name>-<identity>/: its files and manifest.json, which lists them with sizes and checksums. The
// identity is the hash of the key and the inputs. Looking up inputs (package versions) may take seconds, so
// <root>/index/<name>-<key> remembers which entry a key led to last.
//
// Builders of one name take turns by a lock that the kernel drops with their process; each builds in a directory of its
// own that is moved into place when complete, and removes what a killed one has left. An entry is checked when it is
// used: cheaply, by size, time and inode of its files; by checksum when those have changed or MAYFLY_VERIFY is 1. A
// damaged one is told to `progress` and built again.
//
// Thread- and process-safe.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/image.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mayfly::internal {

enum class Reuse {
  kIfBuilt,    // an entry that was built for this key
  kIfCurrent,  // an entry with this key and the inputs of now
  kNever,
};

// Two empty directories on the file system of the cache.
struct BuildPlace {
  std::filesystem::path entry{};    // becomes the entry
  std::filesystem::path scratch{};  // is removed afterwards
};

struct EntryRequest {
  std::string name{};                                  // [a-zA-Z0-9._-]
  std::string key{};                                   // hash of what is known without looking outside
  std::function<std::vector<std::string>()> inputs{};  // the rest of the identity
  std::function<void(const BuildPlace&)> build{};
};

class EntryCache {
 public:
  explicit EntryCache(std::filesystem::path root) : root_(std::move(root)) {}

  // The directory of the entry. Throws what `inputs` and `build` throw, HostLacks when the cache cannot be written.
  std::filesystem::path Get(const EntryRequest& request, Reuse reuse, const Progress& progress) const;

  // The entry that was built for this key, unless it is missing or damaged; builds nothing.
  struct Found {
    std::filesystem::path directory{};
    std::string identity{};
    Bytes size{};  // of its files
  };
  std::optional<Found> Find(const std::string& name, const std::string& key, const Progress& progress) const;

 private:
  std::filesystem::path GetLocked(const EntryRequest& request, Reuse reuse, const Progress& progress) const;
  std::filesystem::path Index(const std::string& name, const std::string& key) const;

  std::filesystem::path root_;
};

}  // namespace mayfly::internal
