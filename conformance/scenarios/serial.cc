#include <fcntl.h>
#include <fmt/format.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/internal/unix_address.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <array>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

// Reads until the text has come; what has come by then when it does not in time.
std::string ReadUntil(int fd, std::string_view text) {
  Deadline deadline = Deadline::After(Scaled(kSoon));
  std::string all;
  while (all.find(text) == std::string::npos && !deadline.Passed()) {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, deadline.RemainingForPoll()) <= 0) break;
    std::array<char, 4096> buffer{};
    ssize_t size = read(fd, buffer.data(), buffer.size());
    if (size <= 0) break;
    all.append(buffer.data(), static_cast<size_t>(size));
  }
  return all;
}

constexpr const char* kConsole = "echo from-the-guest > /dev/console";

SCENARIO_FOR(kSerialFile, "what the guest writes to its console is kept, over a reboot too") {
  Vm& vm = Boot();
  Out(vm, "echo first-marked > /dev/console");
  vm.WaitForConsole("first-marked", Scaled(kSoon));
  vm.Reset();
  Out(vm, "echo second-marked > /dev/console");
  vm.WaitForConsole("second-marked", Scaled(kSoon));
  std::string log = internal::ReadWholeFile(vm.machine().console_path(), 16 << 20);
  EXPECT_THAT(log, AllOf(HasSubstr("first-marked"), HasSubstr("second-marked")));
}

SCENARIO_FOR(kSerialReadiness, "a guest without the agent is ready when its line has come") {
  // The agent of the image prints the line, but nothing listens to it.
  Vm& vm = Boot({.agent = false});
  EXPECT_EQ(vm.status().state, MachineState::kReady);
  EXPECT_THAT(vm.console(), HasSubstr("VMRS_READY"));
}

REFUSAL_FOR(kSerialReadiness, "a guest whose line does not come is not ready, and the error shows its console") {
  Vm& vm = Create({.boot = {.command_line = "rdinit=/bin/none"}, .agent = false, .boot_timeout = 30s});
  try {
    vm.Boot();
    ADD_FAILURE() << "it was ready";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("console:"));
  }
  EXPECT_NE(vm.status().state, MachineState::kReady);
}

SCENARIO_FOR(kSerialPty, "guest and host speak over a pseudo-terminal") {
  Vm& vm = Boot({.serial = SerialKind::kPty});
  auto event = vm.machine().timeline().WaitFor([](const Event& e) { return e.name == "serial"; }, Deadline::After(0s));
  ASSERT_TRUE(event);
  internal::UniqueFd pty(open(event->detail.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(pty) << event->detail;
  termios raw{};
  ASSERT_EQ(tcgetattr(pty.get(), &raw), 0) << "no terminal";
  cfmakeraw(&raw);
  tcsetattr(pty.get(), TCSANOW, &raw);
  Out(vm, kConsole);
  EXPECT_THAT(ReadUntil(pty.get(), "from-the-guest"), HasSubstr("from-the-guest"));
  GuestProcess reader = vm.Start("head -n 1 < /dev/ttyS0");
  internal::WriteAll(pty, "from-the-host\n", event->detail);
  reader.WaitForOutput("from-the-host", Scaled(kSoon));
}

SCENARIO_FOR(kSerialPty, "the console's log is kept all the same") {
  Vm& vm = Boot({.serial = SerialKind::kPty});
  Out(vm, kConsole);
  vm.WaitForConsole("from-the-guest", Scaled(kSoon));
}

SCENARIO_FOR(kSerialSocket, "guest and host speak over a unix socket") {
  Vm& vm = Boot({.serial = SerialKind::kSocket});
  internal::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::string path = vm.machine().sandbox().Path("serial.sock");
  const sockaddr_un address = internal::UnixAddress(path).value();
  ASSERT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << path;  // NOLINT
  Out(vm, kConsole);
  EXPECT_THAT(ReadUntil(socket.get(), "from-the-guest"), HasSubstr("from-the-guest"));
  GuestProcess reader = vm.Start("head -n 1 < /dev/ttyS0");
  internal::WriteAll(socket, "from-the-host\n", path);
  reader.WaitForOutput("from-the-host", Scaled(kSoon));
}

SCENARIO_FOR(kSerialSocket, "the console's log is kept all the same") {
  Vm& vm = Boot({.serial = SerialKind::kSocket});
  Out(vm, kConsole);
  vm.WaitForConsole("from-the-guest", Scaled(kSoon));
}

}  // namespace
}  // namespace mayfly::conformance
