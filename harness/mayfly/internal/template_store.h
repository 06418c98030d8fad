// Templates on disk: machines that are booted and prepared once, and from then on copied.
//
//   TemplateStore store;
//   fs::path saved = store.Get({.label = "tiny", .key = hash, .build = [](const fs::path& place) { … }}, progress);
//   UniqueFd use = TemplateStore::Use(saved);                        // nobody removes it meanwhile
//
// A template is a directory <cache>/templates/<label>-<random>/, made by Machine::Snapshot, with a list of checksums.
// An index file for each key names the template and the host's files that went into it: when one of those changes, the
// template is built anew. Whoever comes first builds, under a lock that the kernel drops with its process; the others
// wait, and when the build fails they get its error instead of each failing in turn. A build happens in a directory of
// its own that is moved into place when complete, so a killed one leaves nothing that looks like a template, and its
// remains go with the next.
//
// A machine that cannot be saved (Unsupported of kStateSnapshot) is remembered as such under its key.
//
// Templates that are damaged are built again. What has not been used longest goes when all together take more than
// $MAYFLY_TEMPLATE_SPACE (default 8GiB), or when it was not used for a week; never while it is in use, or while another
// template's disks lie on it.
//
// Thread- and process-safe.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/image.h>
#include <mayfly/internal/unique_fd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mayfly::internal {

// What a build tells.
struct BuiltTemplate {
  // It needed no template of its own: another one, of the same store, serves.
  std::filesystem::path same_as{};
  std::filesystem::path base{};                // a template on whose disks its own lie; empty: none
  std::vector<std::filesystem::path> files{};  // of the host, which went into it
};

struct TemplateRequest {
  std::string label{};  // [a-zA-Z0-9._-]
  std::string key{};    // hash of all that is known before
  // Leaves the snapshot in `place`/snapshot; `place` is an empty directory on the store's file system.
  std::function<BuiltTemplate(const std::filesystem::path& place)> build{};
};

class TemplateStore {
 public:
  // In the cache directory. Throws BadSpec as ImageStore does.
  TemplateStore();
  explicit TemplateStore(std::filesystem::path root) : root_(std::move(root)) {}

  // The snapshot's directory. Throws what `build` throws, here or in the process that built meanwhile; HostLacks when
  // the store cannot be written.
  std::filesystem::path Get(const TemplateRequest& request, const Progress& progress = {}) const;

  // Keeps a template from being removed as long as the returned descriptor is open. Throws BadSpec when it is not
  // there.
  static UniqueFd Use(const std::filesystem::path& directory);

  // Removes what has not been used longest beyond `space`, what is older than `age`, and what killed builds left.
  // Returns what it removed.
  std::vector<std::filesystem::path> Evict(Bytes space, std::chrono::seconds age) const;

  struct Stored {
    std::filesystem::path directory{};
    std::filesystem::file_time_type used{};
    Bytes size{};  // on the disk
  };
  // All templates, the one that was not used longest first.
  std::vector<Stored> List() const;

  // What killed builds and evictions left; removes nothing.
  std::vector<std::filesystem::path> FindGarbage() const { return Garbage(/*remove=*/false); }
  // Removes that, and returns what it removed.
  std::vector<std::filesystem::path> CollectGarbage() const { return Garbage(/*remove=*/true); }

 private:
  std::vector<std::filesystem::path> Garbage(bool remove) const;
  std::filesystem::path Find(const TemplateRequest& request, const Progress& progress) const;
  std::filesystem::path Build(const TemplateRequest& request) const;
  std::filesystem::path IndexFile(const TemplateRequest& request) const;

  std::filesystem::path root_;
};

}  // namespace mayfly::internal
