#include <mayfly/internal/swtpm.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/disk_image.h>
#include <mayfly/internal/lasting_server.h>
#include <mayfly/internal/unix_listener.h>

#include <optional>
#include <utility>

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

namespace {

// But for the listener that it gets.
ChildOptions ServerOf(const Sandbox& sandbox, const fs::path& directory) {
  std::optional<fs::path> program = FindProgram("swtpm");
  if (!program) {
    throw HostLacks({.summary = "there is no swtpm, which is the TPM of a guest",
                     .next_step = "install swtpm (Debian: sudo apt-get install swtpm)"});
  }
  fs::path log = sandbox.Path("swtpm.log");
  return {.argv = SwtpmCommand(program->string(), directory),
          .stdout_path = log,
          .stderr_path = log,
          .grace = Duration::zero()};
}

}  // namespace

std::unique_ptr<Process> ServeTpm(const Sandbox& sandbox, const fs::path& directory, const fs::path& socket) {
  ChildOptions server = ServerOf(sandbox, directory);
  UniqueFd listener = ListenOn(socket);
  server.inherit = {{listener.get(), kSwtpmSocket}};
  return sandbox.Start(std::move(server));
}

std::unique_ptr<Process> ServeTpmAgain(Sandbox sandbox, const fs::path& directory, const fs::path& socket) {
  ChildOptions server = ServerOf(sandbox, directory);
  auto listener = std::make_shared<UniqueFd>(ListenOn(socket));
  server.inherit = {{listener->get(), kSwtpmSocket}};
  auto owner = std::make_shared<Sandbox>(std::move(sandbox));
  return std::make_unique<LastingServer>([server, listener, owner] { return owner->Start(server); });
}

}  // namespace mayfly::internal
