// The machine types of QEMU that the driver uses, and which one a spec gets.
//
// microvm boots fastest: no PCI, no firmware tables to speak of, virtio devices at fixed addresses. q35 is a PC with
// PCI Express: whatever needs a PCI slot, hotplug or firmware needs it.
//
//   MachineChoice choice = ChooseMachine(spec);
//   choice.type->name == "q35";  choice.reason == "the spec has a watchdog, which is a PCI device"
#pragma once

#include <mayfly/spec.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace mayfly::internal {

struct MachineType {
  MachineKind kind;
  std::string_view name;          // of QEMU
  std::string_view options;       // of -M
  std::string_view bus;           // how names of virtio devices end: virtio-blk-BUS
  std::string_view kernel_words;  // what Linux has to be told about it
  size_t max_devices;             // virtio devices that it takes
  size_t hotplug_slots;           // devices that can be added while it runs
};

struct MachineChoice {
  const MachineType* type = nullptr;
  std::string reason{};
};

// Throws BadSpec when the spec insists on a machine that cannot have all the rest of it.
MachineChoice ChooseMachine(const MachineSpec& spec);

// The number of virtio devices that the spec comes to.
size_t VirtioDeviceCount(const MachineSpec& spec);

const MachineType& MachineTypeOf(MachineKind kind);

}  // namespace mayfly::internal
