#include <mayfly/internal/qcow2.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/files.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic("QFI\xfb", 4);
constexpr uint32_t kVersion = 3;
constexpr uint32_t kClusterBits = 16;
constexpr uint64_t kCluster = uint64_t{1} << kClusterBits;
constexpr uint64_t kPerTable = kCluster / 8;               // clusters that one table of the second level maps
constexpr uint64_t kLargestL1 = (uint64_t{32} << 20) / 8;  // QEMU's own limit: 32 MiB
constexpr uint32_t kHeaderLength = 104;
constexpr uint32_t kRefcountOrder = 4;  // 16 bits each
constexpr uint32_t kBackingFormatExtension = 0xe2792aca;
constexpr size_t kLongestBackingName = 1023;
constexpr size_t kSizeOffset = 24;

// Numbers of the format are big endian.
void Put(std::string& out, uint64_t number, size_t bytes) {
  for (size_t i = bytes; i-- > 0;) out.push_back(static_cast<char>(number >> (8 * i)));
}
void Put32(std::string& out, uint32_t number) { Put(out, number, 4); }
void Put64(std::string& out, uint64_t number) { Put(out, number, 8); }

uint64_t Read(std::string_view bytes, size_t at, size_t count) {
  uint64_t number = 0;
  for (char c : bytes.substr(at, count)) number = number << 8 | static_cast<unsigned char>(c);
  return number;
}

// Where things are: header, refcount table, refcount block, then the table of the first level.
constexpr uint64_t kRefcountTable = kCluster;
constexpr uint64_t kRefcountBlock = 2 * kCluster;
constexpr uint64_t kL1Table = 3 * kCluster;

std::string Header(const BackingImage& backing, uint64_t l1_entries) {
  std::string name = backing.path.string();
  std::string_view format = backing.format == DiskFormat::kQcow2 ? "qcow2" : "raw";
  std::string extensions;
  Put32(extensions, kBackingFormatExtension);
  Put32(extensions, static_cast<uint32_t>(format.size()));
  extensions += format;
  extensions.resize((extensions.size() + 7) & ~size_t{7});
  Put64(extensions, 0);  // the end of the extensions

  std::string header(kMagic);
  Put32(header, kVersion);
  Put64(header, kHeaderLength + extensions.size());
  Put32(header, static_cast<uint32_t>(name.size()));
  Put32(header, kClusterBits);
  Put64(header, backing.size.count());
  Put32(header, 0);  // not encrypted
  Put32(header, static_cast<uint32_t>(l1_entries));
  Put64(header, kL1Table);
  Put64(header, kRefcountTable);
  Put32(header, 1);  // clusters of the refcount table
  Put32(header, 0);  // snapshots
  Put64(header, 0);
  for (int features = 0; features < 3; ++features) Put64(header, 0);  // incompatible, compatible, autoclear
  Put32(header, kRefcountOrder);
  Put32(header, kHeaderLength);
  return header + extensions + name;
}

void WriteAt(const UniqueFd& file, uint64_t at, std::string_view bytes, const fs::path& path) {
  if (pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(bytes.size())) {
    ThrowFileError("write", path, errno);
  }
}

}  // namespace

void CreateQcow2Overlay(const fs::path& overlay, const BackingImage& backing) {
  uint64_t l1_entries = (backing.size.count() + kCluster * kPerTable - 1) / (kCluster * kPerTable);
  if (backing.path.native().size() > kLongestBackingName || l1_entries > kLargestL1) {
    throw BadSpec({.summary = fmt::format("{}: no overlay can be made of it: its path has {} bytes of {} allowed, its "
                                          "size is {}",
                                          backing.path.string(), backing.path.native().size(), kLongestBackingName,
                                          ToString(backing.size))});
  }
  uint64_t clusters = 3 + (l1_entries * 8 + kCluster - 1) / kCluster;
  UniqueFd file(open(overlay.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) ThrowFileError("make", overlay, errno);
  if (ftruncate(file.get(), static_cast<off_t>(clusters * kCluster)) != 0) ThrowFileError("size", overlay, errno);
  WriteAt(file, 0, Header(backing, l1_entries), overlay);
  std::string block;
  Put64(block, kRefcountBlock);
  WriteAt(file, kRefcountTable, block, overlay);
  std::string counts;
  for (uint64_t i = 0; i < clusters; ++i) Put(counts, 1, 2);
  WriteAt(file, kRefcountBlock, counts, overlay);
}

Bytes Qcow2VirtualSize(const fs::path& image) {
  std::string head(kHeaderLength, '\0');
  size_t count = ReadSome(OpenToRead(image), head, image);
  if (count < kSizeOffset + 8 || !head.starts_with(kMagic)) {
    throw BadSpec({.summary = fmt::format("{}: is no qcow2 image", image.string()),
                   .next_step = "set its format to \"raw\" if it is a raw one; `qemu-img info` tells"});
  }
  return Bytes(Read(head, kSizeOffset, 8));
}

}  // namespace mayfly::internal
