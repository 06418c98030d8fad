#include <mayfly/internal/known_image.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/entry_manifest.h>
#include <mayfly/internal/files.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <system_error>

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kLargestRecord = uint64_t{1} << 20;

json ToJson(const Image& image) {
  return {{"name", image.name},
          {"hash", image.hash},
          {"kernel", image.kernel.native()},
          {"packaged_kernel", image.packaged_kernel.native()},
          {"initramfs", image.initramfs.native()},
          {"root_disk", image.root_disk.native()},
          {"command_line", image.command_line},
          {"agent", image.agent}};
}

Image ImageFromJson(const json& record) {
  auto text = [&](const char* key) { return record.at(key).get<std::string>(); };
  return {.name = text("name"),
          .hash = text("hash"),
          .kernel = text("kernel"),
          .packaged_kernel = text("packaged_kernel"),
          .initramfs = text("initramfs"),
          .root_disk = text("root_disk"),
          .command_line = text("command_line"),
          .agent = record.at("agent").get<bool>()};
}

}  // namespace

void ImageInputs::Add(const fs::path& file) { stamps[file.native()] = FileStamp(file).dump(); }

std::optional<Image> FindKnownImage(const fs::path& record) try {
  const json known = json::parse(ReadWholeFile(record, kLargestRecord));
  for (const auto& [file, stamp] : known.at("inputs").items()) {
    if (FileStamp(file).dump() != stamp.get<std::string>()) return std::nullopt;
  }
  Image image = ImageFromJson(known.at("image"));
  if (!CheckEntry(image.kernel.parent_path()).damage.empty()) return std::nullopt;
  return image;
} catch (const json::exception&) {
  return std::nullopt;
} catch (const Error&) {
  return std::nullopt;
}

void RememberImage(const fs::path& record, const Image& image, const ImageInputs& inputs) {
  fs::path draft = record.native() + fmt::format(".{}", gettid());
  std::error_code ignored;
  try {
    WriteWholeFile(draft, json{{"inputs", inputs.stamps}, {"image", ToJson(image)}}.dump());
    fs::rename(draft, record);
  } catch (const Error&) {
    fs::remove(draft, ignored);
  } catch (const fs::filesystem_error&) {
    fs::remove(draft, ignored);
  }
}

}  // namespace mayfly::internal
