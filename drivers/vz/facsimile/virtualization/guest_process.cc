#include "drivers/vz/facsimile/virtualization/guest_process.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/served_process.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/virtiofsd.h>
#include <mayfly/sandbox.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace mayfly::facsimile {
namespace {

constexpr const char* kGone = "the guest has ended";

// The helper's own working directory as the sandbox in which servers of shares put their files.
class OwnDirectory final : public internal::SandboxOwner {
 public:
  std::unique_ptr<internal::Process> Start(internal::ChildOptions options) override {
    return std::make_unique<internal::ChildProcess>(std::move(options));
  }
  void Keep() override {}
};

std::unique_ptr<internal::Process> Start(const GuestHardware& hardware, int control) {
  Sandbox sandbox = Sandbox::OwnedBy(std::make_shared<OwnDirectory>(), std::filesystem::current_path());
  std::vector<std::unique_ptr<internal::Process>> servers;
  std::vector<std::string> sockets;
  for (const GuestShare& share : hardware.shares) {
    sockets.push_back(internal::ShareSocket(sandbox.directory(), sockets.size()));
    Share served{.tag = share.tag, .path = share.directory, .readonly = share.read_only};
    servers.push_back(internal::ServeShare(sandbox, served, sockets.back()));
  }
  GuestCommand command = CommandOf(hardware, control, sockets);
  command.arguments.insert(command.arguments.begin(), kGuestProgram);
  constexpr const char* kOwnErrors = "/proc/self/fd/2";
  std::unique_ptr<internal::Process> qemu = sandbox.Start({.argv = std::move(command.arguments),
                                                           .stdout_path = kOwnErrors,
                                                           .stderr_path = kOwnErrors,
                                                           .inherit = std::move(command.inherit),
                                                           .environment = {{"MALLOC_ARENA_MAX", "1"}},
                                                           .grace = Duration::zero()});
  if (servers.empty()) return qemu;
  return std::make_unique<internal::ServedProcess>(std::move(qemu), std::move(servers));
}

}  // namespace

GuestProcess::GuestProcess(const GuestHardware& hardware, std::function<void(GuestEnd)> ended)
    : ended_(std::move(ended)) {
  auto [ours, theirs] = internal::SocketPair();
  control_ = std::move(ours);
  process_ = Start(hardware, theirs.get());
  theirs.Reset();
  reader_ = std::thread([this] { Read(); });
  Execute("qmp_capabilities", {}, [](const std::string&) {});
}

GuestProcess::~GuestProcess() {
  Kill();
  reader_.join();
}

void GuestProcess::Kill() { process_->Kill(); }

void GuestProcess::Execute(const std::string& command, const nlohmann::json& arguments, Done done) {
  nlohmann::json message = {{"execute", command}};
  if (!arguments.is_null()) message["arguments"] = arguments;
  const std::string line = message.dump() + "\n";
  {
    std::lock_guard lock(mutex_);
    if (!gone_) {
      waiting_.push_back(std::move(done));
      size_t sent = 0;
      while (sent < line.size()) {
        ssize_t count = send(control_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) break;  // the reader sees the end, and tells
        sent += static_cast<size_t>(count);
      }
      return;
    }
  }
  done(kGone);
}

GuestProcess::Done GuestProcess::NextWaiting() {
  std::lock_guard lock(mutex_);
  if (waiting_.empty()) return {};
  Done done = std::move(waiting_.front());
  waiting_.pop_front();
  return done;
}

void GuestProcess::Take(const nlohmann::json& message) {
  if (message.contains("event")) {
    const auto data = message.value("data", nlohmann::json::object());
    if (message["event"] == "SHUTDOWN" && data.value("reason", "") == "guest-shutdown") powered_off_ = true;
  } else if (message.contains("return")) {
    if (Done done = NextWaiting()) done("");
  } else if (message.contains("error")) {
    if (Done done = NextWaiting()) done(message["error"].value("desc", "refused"));
  }
}

void GuestProcess::Read() {
  std::string buffer;
  std::array<char, 4096> bytes{};
  while (true) {
    ssize_t count = recv(control_.get(), bytes.data(), bytes.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    buffer.append(bytes.data(), static_cast<size_t>(count));
    for (size_t end = buffer.find('\n'); end != std::string::npos; end = buffer.find('\n')) {
      auto message = nlohmann::json::parse(buffer.substr(0, end), nullptr, /*allow_exceptions=*/false);
      buffer.erase(0, end + 1);
      if (message.is_object()) Take(message);
    }
  }
  process_->Wait(Deadline::Never());
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
  }
  while (Done done = NextWaiting()) done(kGone);
  ended_(powered_off_ ? GuestEnd::kPoweredOff : GuestEnd::kOther);
}

}  // namespace mayfly::facsimile
