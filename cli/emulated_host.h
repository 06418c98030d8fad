// An emulated Linux host that has a working /dev/kvm and this machine's files: what `mayfly host` runs commands in.
//
//   Vm vm = BootEmulatedHost({.cpus = 2, .memory = 2_GiB, .shares = {"/home/me/results"}}, progress);
//   vm.Exec(InEmulatedHost({"my-vmm", "--version"}, "/home/me"));
//
// It is a VM in software emulation whose processor has AMD's virtualisation, nested paging included. Its root is this
// machine's root directory, read-only underneath, with a layer in memory that takes all writes and goes with the host;
// only the directories of `shares` are written to for real. /proc, /sys, /dev and /run are its own. It has no network
// but its loopback.
#pragma once

#include <mayfly/bytes.h>
#include <mayfly/exec.h>
#include <mayfly/image.h>
#include <mayfly/spec.h>
#include <mayfly/vm.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mayfly::cli {

struct EmulatedHostOptions {
  uint32_t cpus = 2;
  Bytes memory = Bytes(uint64_t{2} << 30);
  std::vector<std::filesystem::path> shares{};  // directories of this machine that it may write to
  Bytes hugepages{};                            // of its memory, so much is for huge pages only
  bool iommu = false;  // it has one, and a disk to hand on to guests: MAYFLY_VFIO_DEVICE names it
};

// Throws BadSpec for a share that is no directory.
MachineSpec SpecOfEmulatedHost(const EmulatedHostOptions& options);

// The script that makes a host of the guest once it runs, as root, with busybox.
std::string SetUpScript(const EmulatedHostOptions& options);

// The words that run `command` in it, in `directory` of its root.
std::vector<std::string> InEmulatedHost(const std::vector<std::string>& command,
                                        const std::filesystem::path& directory);

// Says to programs in it that they are there.
inline constexpr const char* kEmulatedHostVariable = "MAYFLY_EMULATED_HOST";

// The environment of commands in it: that of this process, and what programs that know mayfly should know.
std::map<std::string, std::string> EnvironmentInEmulatedHost();

// Boots one and waits until commands can be run in it. An emulated processor hangs at times when it starts; a start
// that takes too long is given up and made again, twice. Throws what Vm::Create and Vm::Boot throw.
Vm BootEmulatedHost(const EmulatedHostOptions& options, const Progress& progress);

}  // namespace mayfly::cli
