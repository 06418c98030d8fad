// What users bring: kernels and directories of their own.
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/content_hash.h>
#include <mayfly/internal/ext4_image.h>
#include <mayfly/internal/file_tree.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/kernel_image.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string_view>
#include <vector>

namespace mayfly {
namespace {

namespace fs = std::filesystem;
using internal::FileTree;
using internal::UniqueFd;

// A file's bytes, read when they are looked at: kernels are large, and only a few pages of them matter.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& file) {
    UniqueFd fd = internal::OpenToRead(file);
    struct stat status{};
    if (fstat(fd.get(), &status) != 0) internal::ThrowFileError("read", file, errno);
    size_ = static_cast<size_t>(status.st_size);
    if (!S_ISREG(status.st_mode) || size_ == 0) return;
    bytes_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (bytes_ == MAP_FAILED) internal::ThrowFileError("read", file, errno);
  }
  ~MappedFile() {
    if (bytes_ != nullptr) munmap(bytes_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const {
    return bytes_ == nullptr ? std::string_view() : std::string_view(static_cast<const char*>(bytes_), size_);
  }

 private:
  void* bytes_ = nullptr;
  size_t size_ = 0;
};

FileTree TreeOf(const fs::path& directory) {
  FileTree tree;
  tree.AddHostDirectory(directory, /*owned_by_root=*/true);
  return tree;
}

}  // namespace

void CheckKernel(const fs::path& kernel) {
  if (internal::FormOfKernel(MappedFile(kernel).bytes()) != internal::KernelForm::kUnknown) return;
  throw BadSpec(
      {.summary = fmt::format("{} is no kernel that can be started; allowed: a bzImage, an x86 ELF file with a "
                              "PVH entry (CONFIG_PVH), or an arm64 Image",
                              kernel.native()),
       .notes = {},
       .next_step = "Debian's are /boot/vmlinuz-*; or leave boot.kernel empty for that of the image"});
}

void BuildInitramfsFromDirectory(const fs::path& directory, const fs::path& out, const fs::path& base) {
  internal::WriteCpio(TreeOf(directory), out);
  if (base.empty()) return;
  // The kernel unpacks archives that follow each other, each from a multiple of 4.
  std::string own = internal::ReadWholeFile(out, UINT64_MAX);
  UniqueFd to = internal::OpenToWrite(out);
  internal::HostFileContent from(base);
  std::vector<char> buffer(1 << 20);
  size_t size = 0;
  while (size_t count = from.Read(buffer)) {
    internal::WriteAll(to, {buffer.data(), count}, out);
    size += count;
  }
  internal::WriteAll(to, std::string((4 - size % 4) % 4, '\0'), out);
  internal::WriteAll(to, own, out);
}

void BuildDiskFromDirectory(const fs::path& directory, Bytes size, const fs::path& out) {
  FileTree tree = TreeOf(directory);
  internal::ContentHash identity;
  for (const auto& [path, node] : tree.nodes()) {
    identity.Add(fmt::format("{} {} {} {}", path, node.entry.mode, node.entry.size, node.entry.modified));
  }
  internal::Ext4Writer disk(out, {.size = size, .identity = identity.Digest()});
  disk.Add(tree);
  disk.Finish();
}

}  // namespace mayfly
