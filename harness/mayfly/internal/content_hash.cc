#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/files.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <vector>

namespace mayfly::internal {

struct ContentHash::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() { XXH3_128bits_reset(xxh); }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

ContentHash::ContentHash() : state_(std::make_unique<State>()) {}
ContentHash::~ContentHash() = default;

ContentHash& ContentHash::Add(std::string_view part) {
  uint64_t size = part.size();
  XXH3_128bits_update(state_->xxh, &size, sizeof size);
  XXH3_128bits_update(state_->xxh, part.data(), part.size());
  return *this;
}

ContentHash& ContentHash::AddFile(const std::filesystem::path& file) {
  UniqueFd fd = OpenToRead(file);
  std::vector<char> buffer(1 << 20);
  uint64_t size = 0;
  while (size_t count = ReadSome(fd, buffer, file)) {
    XXH3_128bits_update(state_->xxh, buffer.data(), count);
    size += count;
  }
  XXH3_128bits_update(state_->xxh, &size, sizeof size);
  return *this;
}

std::string ContentHash::Digest() const {
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state_->xxh));
  return fmt::format("{:02x}", fmt::join(digest.digest, ""));
}

}  // namespace mayfly::internal
