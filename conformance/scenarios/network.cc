#include <fmt/format.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/files.h>
#include <mayfly/internal/unique_fd.h>
#include <mayfly/internal/unix_address.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "conformance/scenario.h"

namespace mayfly::conformance {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace)

constexpr const char* kMac = "52:54:00:12:34:56";

// A datagram socket of the host that is the other end of a NIC.
class Wire {
 public:
  explicit Wire(const std::filesystem::path& path) : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = internal::UnixAddress(path).value();
    if (bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {  // NOLINT
      throw HostLacks({.summary = "cannot bind " + path.string()});
    }
    timeval patience{.tv_sec = std::chrono::seconds(Scaled(kSoon) / 1s * 1s).count(), .tv_usec = 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }

  // The next frame that begins so; empty when none comes.
  std::string Receive(std::string_view begin) {
    std::array<char, 2048> frame{};
    for (;;) {
      peer_size_ = sizeof peer_;
      ssize_t size =
          recvfrom(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&peer_),  // NOLINT
                   &peer_size_);
      if (size <= 0) return {};
      std::string_view text(frame.data(), static_cast<size_t>(size));
      if (text.starts_with(begin)) return std::string(text);
    }
  }
  // Whether a frame that has arrived by now contains this. Takes them all.
  bool Has(std::string_view part) {
    std::array<char, 2048> frame{};
    bool found = false;
    for (ssize_t size = 0; (size = recv(socket_.get(), frame.data(), frame.size(), MSG_DONTWAIT)) > 0;) {
      found |= std::string_view(frame.data(), static_cast<size_t>(size)).find(part) != std::string_view::npos;
    }
    return found;
  }
  // To where the last one came from.
  bool Send(std::string_view frame) {
    return sendto(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&peer_),
                  peer_size_) ==  // NOLINT
           static_cast<ssize_t>(frame.size());
  }

 private:
  internal::UniqueFd socket_;
  sockaddr_un peer_{};
  socklen_t peer_size_ = 0;
};

// A server on the host's loopback that takes one connection, answers one line by another, and says what it got.
class OneLineServer {
 public:
  OneLineServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||  // NOLINT
        listen(listener_.get(), 1) != 0 ||
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {  // NOLINT
      throw HostLacks({.summary = "cannot listen on the loopback"});
    }
    port_ = ntohs(address.sin_port);
  }
  uint16_t port() const { return port_; }

  std::string Serve(const std::string& answer) {
    pollfd waiting{listener_.get(), POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(Scaled(kSoon) / 1ms)) != 1) return "(nobody connected)";
    internal::UniqueFd stream(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string line;
    for (char c = 0; c != '\n' && recv(stream.get(), &c, 1, 0) == 1;) line += c;
    internal::WriteAll(stream, answer, "the guest");
    return line;
  }

 private:
  internal::UniqueFd listener_;
  uint16_t port_ = 0;
};

SCENARIO_FOR(kNetworkNat, "the guest gets an address, and speaks to a server on its host by way of its gateway") {
  OneLineServer server;
  Vm& vm = Boot({.nics = {{.id = "net", .kind = NicKind::kNat}}});
  vm.WriteFile(
      "/lease",
      "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/24 dev $interface && ip route add default via $router\n", 0755);
  Out(vm, "ip link set eth0 up && udhcpc -i eth0 -n -q -s /lease");
  std::string gateway = Out(vm, "ip route | awk '/^default/{printf \"%s\", $3}'");
  EXPECT_THAT(vm.Exec("ping -c 1 -W 10 " + gateway), Prints(HasSubstr("1 packets received")));
  GuestProcess client = vm.Start(fmt::format("echo from-the-guest | nc -w 20 {} {}", gateway, server.port()));
  EXPECT_EQ(server.Serve("from-the-host\n"), "from-the-guest\n");
  EXPECT_THAT(client.Wait(Scaled(kSoon)), Prints("from-the-host\n"));
}

REFUSAL_FOR(kNetworkNat, "a guest without a NIC has no network") {
  Vm& vm = Boot();
  EXPECT_THAT(vm.Exec("ls /sys/class/net"), Prints("lo\n"));
}

// What a command of the host prints in the network of a TAP device.
std::string AtHostEnd(const TapEnd& end, std::vector<std::string> command) {
  command.insert(command.begin(), end.enter.begin(), end.enter.end());
  internal::CommandOutput output = internal::RunCommand(command, Scaled(kSoon));
  EXPECT_TRUE(output.status.ok()) << output.out;
  return output.out;
}

SCENARIO_FOR(kNetworkTap, "the host's kernel and the guest reach each other over a TAP device of the VM's own") {
  Vm& vm = Boot({.nics = {{.id = "tap", .kind = NicKind::kTap, .mac = kMac}}});
  TapEnd end = vm.machine().HostEndOf("tap");
  AtHostEnd(end, {"ip", "address", "add", "10.9.9.2/24", "dev", end.device});
  Out(vm, "ip link set eth0 up && ip addr add 10.9.9.1/24 dev eth0");
  EXPECT_THAT(vm.Exec("ping -c 1 -W 10 10.9.9.2"), Prints(HasSubstr("1 packets received")));
  EXPECT_THAT(AtHostEnd(end, {"ip", "neighbour", "show", "dev", end.device}), HasSubstr(kMac));
  // And the other way, on a stream.
  GuestProcess server = vm.Start("nc -l -p 7000 -w 60");
  vm.WaitForPort(7000, Scaled(kSoon));
  AtHostEnd(end, {"bash", "-c", "echo from-the-host > /dev/tcp/10.9.9.1/7000"});
  server.WaitForOutput("from-the-host", Scaled(kSoon));
}

REFUSAL_FOR(kNetworkTap, "a device of the host that is not there is refused") {
  EXPECT_THROW(Boot({.nics = {{.id = "tap", .kind = NicKind::kTap, .source = "mayfly-no-such"}}}), BadSpec);
}

SCENARIO_FOR(kNetworkSocketpair, "frames go from the guest to a socket of the host and back") {
  auto path = Directory() / "wire";
  Wire wire(path);
  Vm& vm = Boot({.nics = {{.id = "l2", .kind = NicKind::kSocket, .mac = "52:54:00:00:00:01", .source = path}}});
  Out(vm, "ip link set eth0 up && ip addr add 10.9.9.1/24 dev eth0");
  GuestProcess ping = vm.Start("ping -c 1 10.9.9.2");  // which asks for that address first
  std::string request = wire.Receive("\xff\xff\xff\xff\xff\xff\x52\x54\0\0\0\x01\x08\x06"s);
  ASSERT_GE(request.size(), 42U) << "the request did not arrive";
  // The answer: 10.9.9.2 is at 52:54:00:00:00:02.
  std::string mac = "\x52\x54\0\0\0\x02"s;
  ASSERT_TRUE(wire.Send(request.substr(6, 6) + mac + "\x08\x06\0\x01\x08\0\x06\x04\0\x02"s + mac +
                        request.substr(38, 4) + request.substr(22, 6) + request.substr(28, 4)));
  EXPECT_THAT([&] { return vm.Exec("ip neigh"); }, Eventually(Prints(HasSubstr("52:54:00:00:00:02")), Scaled(kSoon)));
}

REFUSAL_FOR(kNetworkSocketpair, "a socket that is too long for its address is refused") {
  std::string path = Directory() / std::string(120, 'x');
  EXPECT_THROW(Boot({.nics = {{.id = "l2", .kind = NicKind::kSocket, .source = path}}}), BadSpec);
}

SCENARIO_FOR(kNetworkMac, "the guest's NICs have the addresses and MTUs asked for, and keep one that was made up") {
  Vm& vm = Boot(
      {.nics = {{.id = "a", .kind = NicKind::kNone, .mac = kMac, .mtu = 1400}, {.id = "b", .kind = NicKind::kNone}}});
  EXPECT_THAT(vm.Exec("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu"),
              Prints(fmt::format("{}\n1400\n", kMac)));
  std::string made_up = Out(vm, "cat /sys/class/net/eth1/address");
  vm.Kill();
  vm.Boot();
  EXPECT_THAT(vm.Exec("cat /sys/class/net/eth1/address"), Prints(made_up));
}

REFUSAL_FOR(kNetworkMac, "the address of a group and one that is there twice are refused") {
  EXPECT_THROW(Boot({.nics = {{.id = "a", .kind = NicKind::kNone, .mac = "01:00:5e:00:00:01"}}}), BadSpec);
  EXPECT_THROW(Boot({.nics = {{.id = "a", .kind = NicKind::kNone, .mac = kMac},
                              {.id = "b", .kind = NicKind::kNone, .mac = kMac}}}),
               BadSpec);
}

SCENARIO_FOR(kNetworkHotplug, "the guest has a NIC that was added, until it is removed") {
  Vm& vm = Boot({.machine = MachineKind::kPc});
  EXPECT_FALSE(vm.Stat("/sys/class/net/eth0"));
  vm.machine().AddNic({.id = "hot", .kind = NicKind::kNone, .mac = kMac});
  vm.WaitForFile("/sys/class/net/eth0", Scaled(kSoon));
  EXPECT_THAT(vm.Exec("cat /sys/class/net/eth0/address"), Prints(fmt::format("{}\n", kMac)));
  vm.machine().RemoveDevice("hot");
  EXPECT_FALSE(vm.Stat("/sys/class/net/eth0"));
}

REFUSAL_FOR(kNetworkHotplug, "an id that is taken is refused") {
  Vm& vm = Boot({.nics = {{.id = "net", .kind = NicKind::kNone}}, .machine = MachineKind::kPc});
  EXPECT_THROW(vm.machine().AddNic({.id = "net", .kind = NicKind::kNone}), BadSpec);
  EXPECT_THAT(vm.Exec("ls /sys/class/net"), Prints("eth0\nlo\n"));
}

SCENARIO_FOR(kNetworkBridged, "the guest's NIC is on a network of the host") {
  Vm& vm = Boot({.nics = {{.id = "net", .kind = NicKind::kBridged, .mac = kMac}}});
  Out(vm, "ip link set eth0 up");
  EXPECT_THAT(vm.Exec("cat /sys/class/net/eth0/carrier"), Prints("1\n"));
}

SCENARIO_FOR(kNetworkVhostUser, "another process serves the guest's NIC") {
  Vm& vm = Boot({.nics = {{.id = "net", .kind = NicKind::kVhostUser, .mac = kMac, .source = Directory() / "backend"}}});
  Out(vm, "ip link set eth0 up");
  EXPECT_THAT(vm.Exec("cat /sys/class/net/eth0/carrier"), Prints("1\n"));
}

SCENARIO_FOR(kNetworkAttachmentSwap, "frames of a NIC that is plugged into another network arrive there only") {
  Wire first(Directory() / "first");
  Wire second(Directory() / "second");
  Nic nic{.id = "net", .kind = NicKind::kSocket, .mac = kMac, .source = Directory() / "first"};
  Vm& vm = Boot({.nics = {nic}});
  Out(vm, "ip link set eth0 up && ip addr add 10.9.9.1/24 dev eth0");
  constexpr std::string_view kAnyArp = "\xff\xff\xff\xff\xff\xff\x52\x54";
  vm.Exec("ping -c 1 -W 1 10.9.9.2");
  EXPECT_NE(first.Receive(kAnyArp), "") << "nothing arrived where it is plugged in";

  nic.source = Directory() / "second";
  vm.machine().AttachNic(nic);
  vm.Exec("ping -c 1 -W 1 10.9.9.3");
  EXPECT_NE(second.Receive(kAnyArp), "") << "nothing arrived where it was plugged in then";
  EXPECT_FALSE(first.Has("\x0a\x09\x09\x03")) << "what was asked for after it had been plugged in elsewhere";
  EXPECT_THAT(vm.Exec("cat /sys/class/net/eth0/carrier /sys/class/net/eth0/address; ls /sys/class/net"),
              Prints(fmt::format("1\n{}\neth0\nlo\n", kMac)));

  vm.machine().AttachNic({.id = "net", .kind = NicKind::kNone});
  EXPECT_THAT([&] { return vm.Exec("cat /sys/class/net/eth0/carrier"); }, Eventually(Prints("0\n"), Scaled(kSoon)));
  vm.machine().AttachNic(nic);
  EXPECT_THAT([&] { return vm.Exec("cat /sys/class/net/eth0/carrier"); }, Eventually(Prints("1\n"), Scaled(kSoon)));
  vm.Exec("ping -c 1 -W 1 10.9.9.4");
  EXPECT_NE(second.Receive(kAnyArp), "");
}

REFUSAL_FOR(kNetworkAttachmentSwap, "a NIC that is not there is refused, and the others stay where they are") {
  Wire wire(Directory() / "wire");
  Vm& vm = Boot({.nics = {{.id = "net", .kind = NicKind::kSocket, .mac = kMac, .source = Directory() / "wire"}}});
  EXPECT_THROW(vm.machine().AttachNic({.id = "other", .kind = NicKind::kNone}), BadSpec);
  EXPECT_THROW(vm.machine().AttachNic({.id = "net", .kind = NicKind::kSocket, .source = std::string(200, 'x')}),
               BadSpec);
  Out(vm, "ip link set eth0 up && ip addr add 10.9.9.1/24 dev eth0");
  vm.Exec("ping -c 1 -W 1 10.9.9.2");
  EXPECT_NE(wire.Receive("\xff\xff\xff\xff\xff\xff\x52\x54"), "");
}

}  // namespace
}  // namespace mayfly::conformance
