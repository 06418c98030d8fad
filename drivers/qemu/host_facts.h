// Facts about this host that take time to find out, kept in the cache directory.
//
//   HostFacts facts;
//   if (auto verdict = facts.Get(key)) …
//   facts.Put(key, "usable");
//
// A fact's key says all that it depends on (program and its change time, boot of the host, …), so an entry never gets
// wrong; it only gets unused. A cache that cannot be read or written costs time, nothing else: no function throws.
// Thread- and process-safe.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace mayfly::internal {

class HostFacts {
 public:
  HostFacts();
  std::optional<std::string> Get(const std::string& key) const;
  void Put(const std::string& key, const std::string& value) const;
  // Held by one process at a time, so that a fact is found out once. Nothing when the cache is not writable.
  std::shared_ptr<const void> Lock() const;

 private:
  std::filesystem::path FileOf(const std::string& key) const;
  std::filesystem::path directory_;
};

// What changes when a file is replaced: path, size and change time.
std::string FileIdentity(const std::filesystem::path& path);

}  // namespace mayfly::internal
