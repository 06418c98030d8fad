// A guest as a configuration of the framework describes it, in plain C++, and as QEMU is told of it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mayfly::facsimile {

// The host's end of a port: a file that is written to, or a connected stream socket; neither: what the guest writes is
// lost.
struct GuestChannel {
  std::string file{};
  bool append = false;
  int socket = -1;
};

struct GuestPort {
  std::string name{};
  bool console = false;
  GuestChannel channel{};
};

struct GuestDisk {
  std::string file{};
  bool read_only = false;
  bool cached = true;   // through the host's page cache
  bool flushes = true;  // what the guest flushes reaches the host's disk
  std::string identifier{};
};

struct GuestNic {
  enum class Kind { kUnplugged, kNat, kDatagrams };
  Kind kind = Kind::kUnplugged;
  std::string mac{};
  int64_t mtu = 0;  // 0: the usual one
  int socket = -1;  // kDatagrams: connected, one frame a datagram
};

struct GuestShare {
  std::string tag{};
  std::string directory{};
  bool read_only = false;
};

struct GuestHardware {
  uint64_t cpus = 1;
  uint64_t memory = 0;
  std::string kernel{};
  std::string initial_ramdisk{};
  std::string command_line{};
  std::vector<GuestChannel> serial_ports{};               // each a console of its own: hvc0, hvc1, …
  std::vector<std::vector<GuestPort>> console_devices{};  // with the ports of each
  std::vector<GuestDisk> disks{};
  std::vector<GuestNic> nics{};
  std::vector<GuestShare> shares{};
  bool entropy = false;
  bool balloon = false;
};

struct GuestCommand {
  std::vector<std::string> arguments{};        // without the program
  std::vector<std::pair<int, int>> inherit{};  // {ours, QEMU's}
};

// `control`: our descriptor of QEMU's control channel. `share_sockets`: where the server of each share listens.
GuestCommand CommandOf(const GuestHardware& guest, int control, const std::vector<std::string>& share_sockets);

}  // namespace mayfly::facsimile
