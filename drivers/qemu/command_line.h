// The command line of QEMU for a spec.
//
// A pure function of its input: no file is looked at, nothing is started.
//
//   std::vector<std::string> argv = QemuCommandLine({.spec = spec, .machine = MachineTypeOf(MachineKind::kMicro), …});
//
// What of a spec becomes what of QEMU is in tables here, by device; what differs between machine types is in
// machine_type.h.
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/spec.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/qemu/firmware.h"
#include "drivers/qemu/machine_type.h"

namespace mayfly::internal {

// How QEMU's control and agent channels are connected.
// kDescriptors: over sockets that QEMU inherits as descriptors kQmpDescriptor and kAgentDescriptor.
// kPaths: as unix sockets qmp.sock and agent.sock in the directory, which a person can start and connect to.
enum class Wiring { kDescriptors, kPaths };
inline constexpr int kQmpDescriptor = 3;
inline constexpr int kAgentDescriptor = 4;
inline constexpr int kStateDescriptor = 5;
inline constexpr int kVsockDescriptor = 6;  // of /dev/vhost-vsock
inline constexpr int kTapDescriptors = 7;   // and up: that of each NIC of kind kTap, by the NIC's place in the spec

// Whether processes beside QEMU have to reach the guest's memory: those of its shares, and of shares that are added.
bool IsMemoryServed(const MachineSpec& spec, const MachineType& machine);

// Where the guest's memory is. Anonymous memory of the process, or files of a directory, one for each backend; then
// writes reach the files (kShared) or stay in the process (kPrivate).
enum class MemoryKind { kAnonymous, kShared, kPrivate };
struct MemoryPlace {
  MemoryKind kind = MemoryKind::kAnonymous;
  std::filesystem::path directory{};
};

struct CommandLineInput {
  std::string program{};
  const MachineSpec& spec;  // every NIC has its MAC
  const MachineType& machine;
  bool kvm = false;
  uint64_t tsc_khz = 0;               // of this host; 0: not known, the guest has to find out
  std::vector<PreparedDisk> disks{};  // in the order in which the guest shall find them
  std::vector<Bytes> pmem_sizes{};    // of the files of spec.pmem
  Firmware firmware{};
  uint32_t vsock_cid = 0;
  std::filesystem::path directory{};  // of the VM: console.log and sockets are there
  Wiring wiring = Wiring::kDescriptors;
  MemoryPlace memory{};
  bool restore = false;              // waits to be told from where to take the state that it goes on from
  std::vector<std::string> extra{};  // appended as they are
};

std::vector<std::string> QemuCommandLine(const CommandLineInput& input);

}  // namespace mayfly::internal
