#include <mayfly/internal/swtpm.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/unix_listener.h>

#include <optional>

namespace mayfly::internal {

namespace fs = std::filesystem;

void MakeTpmState(const Tpm& tpm, const fs::path& directory) {
  fs::create_directories(directory);
  if (tpm.state.empty()) return;
  for (const fs::directory_entry& file : fs::directory_iterator(tpm.state)) {
    if (file.is_regular_file()) CopyDiskFile(file.path(), directory / file.path().filename());
  }
}

std::vector<std::string> SwtpmCommand(const std::string& program, const fs::path& directory) {
  return {program,
          "socket",
          "--tpm2",
          "--tpmstate",
          fmt::format("dir={},mode=0600", directory.string()),
          "--ctrl",
          fmt::format("type=unixio,fd={}", kSwtpmSocket),
          "--terminate"};
}

std::unique_ptr<Process> ServeTpm(const Sandbox& sandbox, const fs::path& directory, const fs::path& socket) {
  std::optional<fs::path> program = FindProgram("swtpm");
  if (!program) {
    throw HostLacks({.summary = "there is no swtpm, which is the TPM of a guest",
                     .next_step = "install swtpm (Debian: sudo apt-get install swtpm)"});
  }
  UniqueFd listener = ListenOn(socket);
  fs::path log = sandbox.Path("swtpm.log");
  return sandbox.Start({.argv = SwtpmCommand(program->string(), directory),
                        .stdout_path = log,
                        .stderr_path = log,
                        .inherit = {{listener.get(), kSwtpmSocket}},
                        .grace = Duration::zero()});
}

}  // namespace mayfly::internal
