#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/seed_iso.h>

#include <memory>
#include <string>

namespace mayfly::internal {
namespace {

struct Writer {
  archive* handle;
  const std::filesystem::path& path;

  void Check(int result) const {
    if (result >= ARCHIVE_WARN) return;
    const char* reason = archive_error_string(handle);
    throw HostLacks({.summary = fmt::format("cannot write the cloud-init seed {}: {}", path.string(),
                                            reason != nullptr ? reason : "unknown error"),
                     .next_step = "look for free space in the runtime directory (MAYFLY_RUNTIME_DIR chooses another)"});
  }

  void AddFile(const char* name, std::string_view content) const {
    std::unique_ptr<archive_entry, void (*)(archive_entry*)> entry(archive_entry_new(), archive_entry_free);
    archive_entry_set_pathname(entry.get(), name);
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    archive_entry_set_perm(entry.get(), 0644);
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(content.size()));
    archive_entry_set_mtime(entry.get(), 0, 0);
    Check(archive_write_header(handle, entry.get()));
    if (archive_write_data(handle, content.data(), content.size()) < 0) Check(ARCHIVE_FATAL);
  }
};

}  // namespace

std::string DefaultMetaData(std::string_view name) {
  return fmt::format("instance-id: {}\nlocal-hostname: {}\n", name, name);
}

void WriteSeedIso(const Seed& seed, std::string_view name, const std::filesystem::path& path) {
  std::unique_ptr<archive, int (*)(archive*)> handle(archive_write_new(), archive_write_free);
  Writer writer{handle.get(), path};
  writer.Check(archive_write_set_format_iso9660(handle.get()));
  writer.Check(archive_write_set_options(handle.get(), "iso9660:volume-id=CIDATA"));
  writer.Check(archive_write_open_filename(handle.get(), path.c_str()));
  writer.AddFile("user-data", seed.user_data);
  writer.AddFile("meta-data", seed.meta_data.empty() ? DefaultMetaData(name) : seed.meta_data);
  if (!seed.network_config.empty()) writer.AddFile("network-config", seed.network_config);
  writer.Check(archive_write_close(handle.get()));
}

}  // namespace mayfly::internal
