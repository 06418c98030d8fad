#include "drivers/vz/request.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/agent_protocol.h>
#include <mayfly/internal/message_socket.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/unix_address.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace mayfly::vz {
namespace {

namespace fs = std::filesystem;
using internal::PreparedDisk;
using internal::UniqueFd;
using nlohmann::json;

constexpr uint64_t kSector = 512;

// A clone whose format is the image's: shared blocks, or else a copy that keeps the holes.
PreparedDisk CloneRaw(const Disk& disk, const fs::path& directory) {
  PreparedDisk clone{.disk = disk, .path = directory / fmt::format("disk-{}.raw", disk.id), .readonly = disk.readonly};
  internal::CopyDiskFile(disk.path, clone.path);
  Bytes is(fs::file_size(clone.path));
  if (disk.size > Bytes()) {
    internal::GrowDiskFile(disk.id, clone.path, DiskFormat::kRaw, disk.size);
  } else if (is.count() % kSector != 0) {
    fs::resize_file(clone.path, (is.count() + kSector - 1) / kSector * kSector);  // a private copy may end in zeros
  }
  return clone;
}

void RequireRaw(const Disk& disk) {
  if (disk.format == DiskFormat::kRaw) return;
  throw BadSpec(
      {.summary = fmt::format("disk '{}': format: \"qcow2\": Virtualization.framework takes raw images only", disk.id),
       .next_step = fmt::format("qemu-img convert -O raw {} disk.raw", disk.path)});
}

bool IsPrivateClone(const Disk& disk) { return !disk.path.empty() && disk.clone && !disk.readonly; }

std::string KernelCommandLine(const MachineSpec& spec) {
  std::string line = "console=hvc0 hostname=" + spec.name;
  return spec.boot.command_line.empty() ? line : line + " " + spec.boot.command_line;
}

// What a disk that goes after the test needs no more than: nothing is written through to the host's disk for it.
std::string_view SynchronizationOf(DiskCache cache) {
  switch (cache) {
    case DiskCache::kUnsafe:
      return "none";
    case DiskCache::kWriteback:
      return "fsync";
    default:
      return "full";
  }
}

json DisksOf(const std::vector<PreparedDisk>& disks) {
  json all = json::array();
  for (const PreparedDisk& disk : disks) {
    all.push_back({{"id", disk.disk.id},
                   {"path", disk.path.string()},
                   {"readonly", disk.readonly},
                   {"direct", disk.disk.cache == DiskCache::kNone},
                   {"synchronization", SynchronizationOf(disk.disk.cache)}});
  }
  return all;
}

[[noreturn]] void ThrowNoSocket(const Nic& nic, const std::string& what) {
  throw HostLacks({.summary = fmt::format("nic '{}': {}: {}", nic.id, what, std::generic_category().message(errno)),
                   .next_step = "source is the unix datagram socket of the network's other end"});
}

// One datagram is one frame. The framework's header asks for a receive buffer of four times the send buffer.
UniqueFd ConnectNic(const Nic& nic, const fs::path& own) {
  auto address = internal::UnixAddress(own);
  auto remote = internal::UnixAddress(nic.source);
  if (!address || !remote) {
    throw BadSpec(
        {.summary = fmt::format("nic '{}': source: \"{}\" is too long for a unix socket", nic.id, nic.source)});
  }
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) ThrowNoSocket(nic, "cannot make a socket");
  constexpr int kSendBuffer = 1 << 20;
  constexpr int kReceiveBuffer = 4 * kSendBuffer;
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
  std::error_code ignored;
  fs::remove(own, ignored);                                                                      // of an earlier boot
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {  // NOLINT
    ThrowNoSocket(nic, "cannot bind " + own.string());
  }
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&*remote), sizeof *remote) != 0) {  // NOLINT
    ThrowNoSocket(nic, "cannot connect to " + nic.source);
  }
  return socket;
}

void AddNic(const Nic& nic, const Sandbox& sandbox, CreateRequest& request) {
  json device = {{"id", nic.id}, {"mac", nic.mac}, {"kind", nic.kind == NicKind::kNat ? "nat" : "none"}};
  constexpr uint32_t kLeastMtu = 1500;
  if (nic.mtu > 0 && nic.kind != NicKind::kSocket) {
    throw BadSpec({.summary = fmt::format("nic '{}': mtu: {}: Virtualization.framework sets it for NICs of kind "
                                          "\"socket\" only",
                                          nic.id, nic.mtu)});
  }
  if (nic.mtu > 0 && nic.mtu < kLeastMtu) {
    throw BadSpec(
        {.summary = fmt::format("nic '{}': mtu: {} is not allowed; allowed: 1500 to 65535", nic.id, nic.mtu)});
  }
  if (nic.kind == NicKind::kSocket) {
    device["kind"] = "datagrams";
    device["mtu"] = nic.mtu;
    device["descriptor"] = request.descriptors.size();
    request.descriptors.push_back(ConnectNic(nic, sandbox.Path(fmt::format("nic-{}.sock", nic.id))));
  }
  request.body["nics"].push_back(std::move(device));
}

}  // namespace

std::vector<PreparedDisk> PrepareRawDisks(const MachineSpec& spec, const Sandbox& sandbox) {
  std::vector<PreparedDisk> disks;
  for (const Disk& disk : spec.disks) {
    RequireRaw(disk);
    if (IsPrivateClone(disk) && fs::exists(disk.path)) {
      disks.push_back(CloneRaw(disk, sandbox.directory()));
    } else {
      disks.push_back(internal::PrepareDisk(disk, sandbox.directory()));  // or tells what is wrong with its path
    }
    if (uint64_t size = fs::file_size(disks.back().path); size % kSector != 0) {
      throw BadSpec(
          {.summary = fmt::format("disk '{}': {} has {} bytes; Virtualization.framework takes multiples of 512",
                                  disk.id, disks.back().path.string(), size)});
    }
  }
  MachineSpec seed{.name = spec.name, .seed = spec.seed};
  for (PreparedDisk& disk : internal::PrepareDisks(seed, sandbox)) disks.push_back(std::move(disk));
  return disks;
}

CreateRequest MakeCreateRequest(const MachineSpec& spec, const std::vector<PreparedDisk>& disks, const Sandbox& sandbox,
                                const std::vector<uint8_t>& identifier) {
  CreateRequest request;
  request.body = {{"cpus", spec.cpus},
                  {"memory", spec.memory.count()},
                  {"kernel", spec.boot.kernel},
                  {"initramfs", spec.boot.initramfs},
                  {"command_line", KernelCommandLine(spec)},
                  {"console", sandbox.Path("console.log").string()},
                  {"disks", DisksOf(disks)},
                  {"nics", json::array()},
                  {"shares", json::array()},
                  {"rng", spec.rng},
                  {"balloon", spec.balloon.has_value()}};
  if (!identifier.empty()) request.body["machine_identifier"] = json::binary(identifier);
  if (spec.agent) {
    auto [ours, theirs] = internal::SocketPair();
    request.agent = std::move(ours);
    request.body["agent"] = {{"port", internal::agent::kPortName}, {"descriptor", request.descriptors.size()}};
    request.descriptors.push_back(std::move(theirs));
  }
  for (const Nic& nic : spec.nics) AddNic(nic, sandbox, request);
  for (const Share& share : spec.shares) {
    request.body["shares"].push_back(
        {{"tag", share.tag}, {"path", fs::absolute(share.path).string()}, {"readonly", share.readonly}});
  }
  return request;
}

}  // namespace mayfly::vz
