#include <fmt/format.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/unique_fd.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <future>
#include <random>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

using internal::UniqueFd;

constexpr const char* kVsockDriver = "modprobe vmw_vsock_virtio_transport";
// The agent, which is process 1 of the images here, connects commands to vsock.
constexpr const char* kAgent = "/proc/1/exe";

std::string RandomBytes(Bytes size) {
  std::mt19937_64 random(std::random_device{}());
  std::string bytes(size.count(), '\0');
  for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    uint64_t word = random();
    std::copy_n(reinterpret_cast<const char*>(&word), std::min(sizeof word, bytes.size() - i), &bytes[i]);  // NOLINT
  }
  return bytes;
}

// All that comes until the other end is closed, or comes no more.
std::string ReadAll(const UniqueFd& stream) {
  std::string all;
  std::vector<char> buffer(size_t{1} << 16);
  for (pollfd ready{stream.get(), POLLIN, 0}; poll(&ready, 1, static_cast<int>(Scaled(60s) / 1ms)) > 0;) {
    ssize_t size = read(stream.get(), buffer.data(), buffer.size());
    if (size <= 0) break;
    all.append(buffer.data(), static_cast<size_t>(size));
  }
  return all;
}

// What comes back of what is sent, which the other end sends back as it comes.
std::string EchoOf(const UniqueFd& stream, const std::string& bytes) {
  auto answer = std::async(std::launch::async, [&] { return ReadAll(stream); });
  internal::WriteAll(stream, bytes, "vsock");
  shutdown(stream.get(), SHUT_WR);
  return answer.get();
}

UniqueFd Connect(Vm& vm, uint32_t port) {
  UniqueFd stream;
  EXPECT_THAT(
      [&] {
        try {
          stream = vm.machine().ConnectVsock(port);
        } catch (const GuestFailed&) {
          return false;  // it does not listen yet
        }
        return true;
      },
      Eventually(testing::IsTrue(), Scaled(kSoon)));
  return stream;
}

// Two ports at once, each with 64 MiB there and back.
void ExchangeOverTwoPorts(Vm& vm) {
  std::vector<GuestProcess> servers;
  for (uint32_t port : {5000U, 5001U}) {
    servers.push_back(vm.Start(fmt::format("{} --vsock listen {} cat", kAgent, port)));
  }
  const std::string first = RandomBytes(64_MiB);
  const std::string second = RandomBytes(64_MiB);
  UniqueFd one = Connect(vm, 5000);
  UniqueFd two = Connect(vm, 5001);
  auto other = std::async(std::launch::async, [&] { return EchoOf(two, second); });
  EXPECT_TRUE(EchoOf(one, first) == first) << "what came back is not what was sent";
  EXPECT_TRUE(other.get() == second) << "on the second port";
}

SCENARIO_FOR(kIntervmVsock, "two ports of the guest carry 64 MiB each there and back, without a network") {
  Vm& vm = Boot({.vsock = Vsock{}});
  Out(vm, kVsockDriver);
  EXPECT_THAT(vm.Exec("ls /sys/class/net"), Prints("lo\n"));
  ExchangeOverTwoPorts(vm);
}

SCENARIO_FOR(kIntervmVsock, "the guest connects to a port of its host") {
  Vm& vm = Boot({.vsock = Vsock{}});
  Out(vm, kVsockDriver);
  constexpr uint32_t kFirst = 30000;
  uint32_t port = kFirst + std::random_device{}() % kFirst;
  UniqueFd listener = vm.machine().ListenVsock(port);
  GuestProcess client =
      vm.Start(fmt::format("{} --vsock connect {} sh -c 'read -r line; echo guest-got-$line'", kAgent, port));
  pollfd waiting{listener.get(), POLLIN, 0};
  ASSERT_EQ(poll(&waiting, 1, Scaled(kSoon) / 1ms), 1) << "nobody connected";
  UniqueFd stream(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  internal::WriteAll(stream, "blue\n", "vsock");
  EXPECT_EQ(ReadAll(stream), "guest-got-blue\n");
}

REFUSAL_FOR(kIntervmVsock, "a port on which nobody listens is refused, and so is a machine without vsock") {
  Vm& vm = Boot({.vsock = Vsock{}});
  Out(vm, kVsockDriver);
  EXPECT_THROW(vm.machine().ConnectVsock(4999), Error);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
  Vm& without = Boot();
  EXPECT_THROW(without.machine().ConnectVsock(4999), Error);
}

SCENARIO_FOR(kIntervmVsockHotplug, "the guest gets a vsock device while it runs, and carries data over it") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  vm.machine().AddVsock({});
  Out(vm, kVsockDriver);
  vm.WaitForFile("/dev/vsock", Scaled(kSoon));
  ExchangeOverTwoPorts(vm);
}

REFUSAL_FOR(kIntervmVsockHotplug, "a second one is refused") {
  Vm& vm = Boot({.vsock = Vsock{}, .machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().AddVsock({}), Error);
  EXPECT_THAT(vm.Exec("true"), Succeeds());
}

SCENARIO_FOR(kIntervmL2Switch, "guests exchange frames through a switch, and no third one sees them") {
  RequireOffered();
}

}  // namespace
}  // namespace mayfly::conformance
