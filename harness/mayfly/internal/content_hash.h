// The identity of contents: 128 bits (XXH3) as 32 hexadecimal digits. Against damage and mix-ups, not against
// attackers.
//
//   ContentHash().Add("tiny").AddFile("/usr/bin/agent").Digest() == "0d1f…"
//
// Each added part counts with its length, so ("ab", "c") and ("a", "bc") differ.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace mayfly::internal {

class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  ContentHash& Add(std::string_view part);
  // The file's bytes. Throws HostLacks when it cannot be read.
  ContentHash& AddFile(const std::filesystem::path& file);
  std::string Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mayfly::internal
