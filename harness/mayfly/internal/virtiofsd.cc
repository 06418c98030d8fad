#include <mayfly/internal/virtiofsd.h>

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/lasting_server.h>
#include <mayfly/internal/unix_listener.h>
#include <unistd.h>

#include <chrono>
#include <utility>

namespace mayfly::internal {
namespace {

constexpr const char* kFix = "install virtiofsd (Debian 12: qemu-system-common, which has /usr/lib/qemu/virtiofsd)";

// A read-only view of $1 at $2, then the rest of the words as a command.
constexpr const char* kReadOnlyView = R"sh(
mount --rbind "$1" "$2" || exit 1
findmnt -rRno TARGET "$2" | while read -r mounted; do
  mount -o remount,bind,ro "$(printf %b "$mounted")" || exit 1
done || exit 1
shift 2
exec "$@"
)sh";

}  // namespace

VirtiofsdProgram FindVirtiofsd() {
  for (const char* name : {"virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"}) {
    auto path = FindProgram(name);
    if (!path) continue;
    constexpr auto kAnswerTime = std::chrono::seconds(10);
    CommandOutput version = RunCommand({path->string(), "--version"}, Scaled(kAnswerTime));
    bool qemu = version.out.starts_with("virtiofsd version ");
    return {.path = *path, .kind = qemu ? VirtiofsdKind::kQemu : VirtiofsdKind::kRust};
  }
  throw HostLacks({.summary = "there is no virtiofsd, which shares directories with guests", .next_step = kFix});
}

std::vector<std::string> VirtiofsdCommand(const VirtiofsdProgram& program, const Share& share,
                                          const std::filesystem::path& mount_point) {
  std::string descriptor = fmt::format("--fd={}", kVirtiofsdSocket);
  if (program.kind == VirtiofsdKind::kRust) {
    std::vector<std::string> command = {program.path.string(), descriptor, "--shared-dir", share.path, "--cache=auto"};
    if (share.readonly) command.emplace_back("--readonly");
    return command;
  }
  std::vector<std::string> command;
  std::string source = share.path;
  if (share.readonly) {
    source = mount_point.string();
    command = {"unshare", "--mount", "--", "/bin/sh", "-c", kReadOnlyView, "sh", share.path, source};
  }
  // Options are separated by commas there, and a comma in a name cannot be told.
  command.insert(command.end(),
                 {program.path.string(), "-f", descriptor, "-o", "source=" + source, "-o", "cache=auto"});
  return command;
}

namespace {

// All but the listener. Throws HostLacks.
ChildOptions ServerOf(const Sandbox& sandbox, const Share& share, const std::filesystem::path& socket) {
  VirtiofsdProgram program = FindVirtiofsd();
  if (program.kind == VirtiofsdKind::kQemu) {
    if (geteuid() != 0) {
      throw HostLacks({.summary = fmt::format("{} needs root to share '{}'", program.path.string(), share.path),
                       .next_step = "put the virtiofsd of Rust (1.0 or later) on PATH, or run as root"});
    }
    if (share.path.find(',') != std::string::npos) {
      throw HostLacks(
          {.summary = fmt::format("{} cannot share '{}': its name has a comma", program.path.string(), share.path),
           .next_step = "share it under another name, or put the virtiofsd of Rust on PATH"});
    }
  }
  std::filesystem::path mount_point = socket;
  mount_point.replace_extension(".ro");
  std::filesystem::create_directories(mount_point);
  std::filesystem::path log = sandbox.Path("virtiofsd.log");
  return {.argv = VirtiofsdCommand(program, share, mount_point),
          .stdout_path = log,
          .stderr_path = log,
          .grace = Duration::zero()};
}

}  // namespace

std::unique_ptr<Process> ServeShare(const Sandbox& sandbox, const Share& share, const std::filesystem::path& socket) {
  ChildOptions server = ServerOf(sandbox, share, socket);
  UniqueFd listener = ListenOn(socket);
  server.inherit = {{listener.get(), kVirtiofsdSocket}};
  return sandbox.Start(std::move(server));
}

std::unique_ptr<Process> ServeShareAgain(Sandbox sandbox, const Share& share, const std::filesystem::path& socket) {
  ChildOptions server = ServerOf(sandbox, share, socket);
  auto listener = std::make_shared<UniqueFd>(ListenOn(socket));
  server.inherit = {{listener->get(), kVirtiofsdSocket}};
  auto owner = std::make_shared<Sandbox>(std::move(sandbox));
  return std::make_unique<LastingServer>([server, listener, owner] { return owner->Start(server); });
}

}  // namespace mayfly::internal
