#include "drivers/qemu/machine_type.h"

#include <fmt/format.h>
#include <mayfly/errors.h>

#include <algorithm>
#include <array>

namespace mayfly::internal {
namespace {

// microvm without a PIT: an unprogrammed one ticks in every idle guest, and Linux checks its timer against it at boot,
// which hung 1 of 3 boots on a loaded host. The guest is told its TSC frequency instead (see command_line.cc).
// The 24 virtio transports are all that the machine has.
// q35: a leaf without the legacy devices that would only be probed for.
constexpr std::array<MachineType, 2> kMachineTypes = {{
    {.kind = MachineKind::kMicro,
     .name = "microvm",
     .options = "acpi=on,rtc=on,pit=off,pcie=off,usb=off,isa-serial=on",
     .bus = "device",
     .kernel_words = "pci=off",
     .max_devices = 24,
     .hotplug_slots = 0},
    {.kind = MachineKind::kPc,
     .name = "q35",
     .options = "acpi=on,smbus=off,sata=off,vmport=off,usb=off,graphics=off",
     .bus = "pci",
     .kernel_words = "",
     .max_devices = 24,
     .hotplug_slots = 8},
}};

// What microvm cannot have, and why.
struct PcReason {
  bool (*asked)(const MachineSpec&);
  std::string_view reason;
};
constexpr std::array kPcReasons = {
    PcReason{[](const MachineSpec& s) { return s.max_cpus > s.cpus; },
             "max_cpus: CPU hotplug needs ACPI's CPU devices"},
    PcReason{[](const MachineSpec& s) { return s.max_memory > s.memory; },
             "max_memory: memory hotplug needs its slots"},
    PcReason{[](const MachineSpec& s) { return !s.zones.empty(); }, "zones: only a PC describes NUMA nodes"},
    PcReason{[](const MachineSpec& s) { return !s.boot.firmware.empty(); }, "boot.firmware: firmware needs a PC"},
    PcReason{[](const MachineSpec& s) { return s.iommu; }, "iommu: only a PC has one"},
    PcReason{[](const MachineSpec& s) { return s.watchdog.has_value(); }, "watchdog: it is a PCI device"},
    PcReason{[](const MachineSpec& s) { return s.generation_id; }, "generation_id: vmgenid exists on PCs only"},
    PcReason{[](const MachineSpec& s) { return s.graphics.has_value(); }, "graphics: the display is a PCI device"},
    PcReason{[](const MachineSpec& s) { return s.audio; }, "audio: the sound device is a PCI device"},
    PcReason{[](const MachineSpec& s) { return s.usb; }, "usb: the USB controller is a PCI device"},
    PcReason{[](const MachineSpec& s) { return !s.pmem.empty(); }, "pmem: it lies in slots for memory"},
    PcReason{[](const MachineSpec& s) { return s.tpm.has_value(); }, "tpm: its ACPI device needs a PC"},
    PcReason{[](const MachineSpec& s) { return !s.passthrough.empty(); }, "passthrough: it needs PCI slots"},
    PcReason{[](const MachineSpec& s) { return VirtioDeviceCount(s) > kMachineTypes[0].max_devices; },
             "disks, nics: microvm takes 24 virtio devices"},
};

}  // namespace

const MachineType& MachineTypeOf(MachineKind kind) {
  return kMachineTypes[kind == MachineKind::kPc ? 1 : 0];  // kAuto begins with the fast one
}

size_t VirtioDeviceCount(const MachineSpec& spec) {
  return spec.disks.size() + spec.nics.size() + (spec.seed ? 1 : 0) + (spec.agent ? 1 : 0) + (spec.rng ? 1 : 0) +
         (spec.balloon ? 1 : 0) + (spec.vsock ? 1 : 0) + spec.shares.size() + spec.pmem.size() +
         static_cast<size_t>(std::count_if(spec.zones.begin(), spec.zones.end(),
                                           [](const MemoryZone& zone) { return zone.max_size > zone.size; }));
}

MachineChoice ChooseMachine(const MachineSpec& spec) {
  MachineChoice choice{&MachineTypeOf(spec.machine), "the spec asks for it"};
  if (spec.machine == MachineKind::kAuto) choice.reason = "nothing in the spec needs more";
  for (const PcReason& row : kPcReasons) {
    if (choice.type->kind == MachineKind::kPc || !row.asked(spec)) continue;
    if (spec.machine == MachineKind::kMicro) {
      throw BadSpec({.summary = fmt::format("spec: machine: \"micro\" cannot have all of this spec: {}", row.reason),
                     .next_step = "leave machine out, or set it to \"pc\""});
    }
    choice = {&MachineTypeOf(MachineKind::kPc), std::string(row.reason)};
  }
  if (size_t count = VirtioDeviceCount(spec); count > choice.type->max_devices) {
    throw BadSpec({.summary = fmt::format("spec: disks, nics, …: {} virtio devices; this backend takes up to {}", count,
                                          choice.type->max_devices)});
  }
  return choice;
}

}  // namespace mayfly::internal
