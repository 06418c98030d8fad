#include "drivers/qemu/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "drivers/qemu/device_options.h"

namespace mayfly::internal {
namespace {

using nlohmann::json;
using Arguments = std::vector<std::string>;

// Where devices in the address space may begin, at most.
constexpr Bytes kMemoryAlignment(uint64_t{1} << 30);

void Add(Arguments& arguments, std::string option, std::string value) {
  arguments.push_back(std::move(option));
  arguments.push_back(std::move(value));
}

// QEMU's key=value options take a comma as two.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (char c : text) escaped.append(c == ',' ? 2 : 1, c);
  return escaped;
}

// Nothing is there that the spec does not ask for; the process can neither start others nor gain rights. The guest's
// end ends QEMU, its restart does not, and a panic that QEMU is told of (pvpanic) stops the machine for a look at it.
void AddBasics(Arguments& arguments, const CommandLineInput& in) {
  Add(arguments, "-name", fmt::format("guest={},debug-threads=on", Escaped(in.spec.name)));
  for (const char* flag : {"-nodefaults", "-no-user-config"}) arguments.emplace_back(flag);
  Add(arguments, "-display", "none");
  Add(arguments, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  std::string_view watchdog = in.spec.watchdog ? WatchdogActionName(in.spec.watchdog->action) : "reset";
  Add(arguments, "-action", fmt::format("reboot=reset,shutdown=poweroff,panic=pause,watchdog={}", watchdog));
  Add(arguments, "-rtc", "base=utc");
}

// What the guest sees of its processor. In software emulation threads of a core are described in a way that only
// Intel's processors have.
std::string ProcessorModel(const CommandLineInput& in) {
  if (in.kvm) return "host";
  if (in.spec.nested_virtualization) return "EPYC,+svm,+npt,-cx16";
  return in.spec.topology.threads > 1 ? "max,vendor=GenuineIntel" : "max";
}

// A translation buffer of 64 MiB is all that a small guest fills; larger ones made no boot faster.
void AddProcessor(Arguments& arguments, const CommandLineInput& in) {
  const MachineSpec& spec = in.spec;
  Add(arguments, "-accel", in.kvm ? "kvm" : "tcg,thread=multi,tb-size=64");
  Add(arguments, "-cpu", ProcessorModel(in));
  std::string smp = fmt::format("cpus={}", spec.cpus);
  if (spec.max_cpus > spec.cpus) smp += fmt::format(",maxcpus={}", spec.max_cpus);
  const CpuTopology& t = spec.topology;
  if (t == CpuTopology{}) {
    smp += fmt::format(",sockets=1,cores={}", std::max(spec.cpus, spec.max_cpus));
  } else {
    const std::array<std::pair<const char*, uint32_t>, 4> levels = {
        {{"sockets", t.sockets}, {"dies", t.dies}, {"cores", t.cores}, {"threads", t.threads}}};
    for (const auto& [level, count] : levels) smp += fmt::format(",{}={}", level, std::max(count, 1U));
  }
  Add(arguments, "-smp", smp);
}

json MemoryBackend(const std::string& id, Bytes size, bool hugepages, std::optional<uint32_t> host_node,
                   const MemoryPlace& place, bool served) {
  json object = {{"qom-type", "memory-backend-ram"}, {"id", id}, {"size", size.count()}};
  if (hugepages) {
    object["qom-type"] = "memory-backend-memfd";
    object["hugetlb"] = true;
  } else if (place.kind != MemoryKind::kAnonymous) {
    object["qom-type"] = "memory-backend-file";
    object["mem-path"] = (place.directory / id).string();
    object["share"] = place.kind == MemoryKind::kShared;
  } else if (served) {
    object["qom-type"] = "memory-backend-memfd";
  }
  if (served && place.kind == MemoryKind::kAnonymous) object["share"] = true;
  if (host_node) {
    object["host-nodes"] = {*host_node};
    object["policy"] = "bind";
  }
  return object;
}

// Room for what is added to the guest's memory, and for devices that lie in its address space.
Bytes MostMemory(const CommandLineInput& in) {
  Bytes most = std::max(in.spec.memory, in.spec.max_memory);
  for (Bytes size : in.pmem_sizes) most = most + size + kMemoryAlignment;
  for (const MemoryZone& zone : in.spec.zones) {
    if (CanGrow(zone)) most = most + (zone.max_size - zone.size) + kMemoryAlignment;
  }
  return most;
}

void AddMachineAndMemory(Arguments& arguments, const CommandLineInput& in) {
  const MachineSpec& spec = in.spec;
  const bool served = IsMemoryServed(spec, in.machine);
  std::string machine = fmt::format("{},{}", in.machine.name, in.machine.options);
  if (spec.iommu && in.kvm) machine += ",kernel-irqchip=split";
  if (spec.zones.empty()) {
    Add(arguments, "-object",
        MemoryBackend("ram", spec.memory, spec.hugepages, std::nullopt, in.memory, served).dump());
    machine += ",memory-backend=ram";
  }
  if (!in.firmware.code.empty()) machine += ",pflash0=firmware";
  if (!in.firmware.variables.empty()) machine += ",pflash1=variables";
  Add(arguments, "-M", machine);
  std::string memory = fmt::format("size={}k", spec.memory.count() >> 10);
  if (Bytes most = MostMemory(in); most > spec.memory) {
    memory += fmt::format(",slots={},maxmem={}k", kMemorySlots, most.count() >> 10);
  }
  Add(arguments, "-m", memory);
  for (size_t node = 0; node < spec.zones.size(); ++node) {
    const MemoryZone& zone = spec.zones[node];
    Add(arguments, "-object",
        MemoryBackend("zone-" + zone.id, zone.size, zone.hugepages, zone.host_node, in.memory, served).dump());
    std::string numa = fmt::format("node,nodeid={},memdev=zone-{}", node, zone.id);
    for (uint32_t cpu : zone.cpus) numa += fmt::format(",cpus={}", cpu);
    Add(arguments, "-numa", numa);
  }
}

void AddChannels(Arguments& arguments, const CommandLineInput& in) {
  auto socket = [&](std::string_view id, int descriptor, std::string_view file) {
    if (in.wiring == Wiring::kDescriptors) return fmt::format("socket,id={},fd={}", id, descriptor);
    return fmt::format("socket,id={},path={},server=on,wait=off", id, Escaped((in.directory / file).string()));
  };
  Add(arguments, "-chardev", socket("qmp", kQmpDescriptor, "qmp.sock"));
  Add(arguments, "-mon", "chardev=qmp,mode=control");

  std::string console = Escaped((in.directory / "console.log").string());
  std::string log = fmt::format("logfile={},logappend=on", console);
  const std::array<std::string, 3> serial = {fmt::format("file,id=serial,path={},append=on", console),
                                             fmt::format("pty,id=serial,{}", log),
                                             fmt::format("socket,id=serial,path={},server=on,wait=off,{}",
                                                         Escaped((in.directory / "serial.sock").string()), log)};
  Add(arguments, "-chardev", serial.at(static_cast<size_t>(in.spec.serial)));
  Add(arguments, "-serial", "chardev:serial");

  if (!in.spec.agent) return;
  Add(arguments, "-chardev", socket("agent", kAgentDescriptor, "agent.sock"));
  Add(arguments, "-device", fmt::format("virtio-serial-{},id=agent-bus,max_ports=2", in.machine.bus));
  Add(arguments, "-device", "virtserialport,bus=agent-bus.0,chardev=agent,id=agent,name=org.mayfly.agent");
}

// Flash of a PC: firmware, and its variables.
void AddFirmware(Arguments& arguments, const CommandLineInput& in) {
  auto add = [&](const char* name, const std::filesystem::path& file, bool readonly) {
    if (file.empty()) return;
    json node = {{"driver", "file"}, {"node-name", name}, {"filename", file.string()}, {"read-only", readonly}};
    Add(arguments, "-blockdev", node.dump());
  };
  add("firmware", in.firmware.code, true);
  add("variables", in.firmware.variables, false);
  if (!in.firmware.code.empty()) Add(arguments, "-boot", "menu=off");
}

// Before the devices that are behind it.
void AddIommu(Arguments& arguments, const CommandLineInput& in) {
  if (in.spec.iommu) Add(arguments, "-device", "intel-iommu,intremap=on");
}

void AddUsb(Arguments& arguments, const CommandLineInput& in) {
  if (in.spec.usb) Add(arguments, "-device", "qemu-xhci,id=usb");
}

void AddDisks(Arguments& arguments, const CommandLineInput& in) {
  for (const PreparedDisk& disk : in.disks) {
    if (NeedsThrottle(disk.disk)) Add(arguments, "-object", ThrottleGroup(disk.disk.id, disk.disk.limit).dump());
    Add(arguments, "-blockdev", BlockNode(disk).dump());
    json device = DiskDeviceOptions(disk, in.machine);
    if (in.spec.iommu && !disk.disk.usb) {
      device["iommu_platform"] = true;
      device["disable-legacy"] = "on";
    }
    Add(arguments, "-device", device.dump());
  }
}

void AddNics(Arguments& arguments, const CommandLineInput& in) {
  for (size_t i = 0; i < in.spec.nics.size(); ++i) {
    const Nic& nic = in.spec.nics[i];
    const NicPlace place{.hub = i, .wire = i};
    std::string tap;
    if (in.wiring == Wiring::kDescriptors) tap = std::to_string(kTapDescriptors + static_cast<int>(i));
    Add(arguments, "-netdev", NicPortOptions(nic, place).dump());
    for (const json& end : WireOptions(nic, place, in.directory, tap)) Add(arguments, "-netdev", end.dump());
    Add(arguments, "-device", NicDeviceOptions(nic, in.machine).dump());
  }
}

// Memory that is not there yet is not reserved on the host either.
void AddZoneRooms(Arguments& arguments, const CommandLineInput& in) {
  for (size_t node = 0; node < in.spec.zones.size(); ++node) {
    const MemoryZone& zone = in.spec.zones[node];
    if (!CanGrow(zone)) continue;
    json room = MemoryBackend(ZoneRoom(zone.id), zone.max_size - zone.size, zone.hugepages, zone.host_node, in.memory,
                              IsMemoryServed(in.spec, in.machine));
    room["reserve"] = false;
    Add(arguments, "-object", room.dump());
    Add(arguments, "-device", ZoneDeviceOptions(zone, node).dump());
  }
}

// virtiofsd and vhost_vsock speak virtio 1 only, and microvm's transports begin with what was before it.
void AddTransports(Arguments& arguments, const CommandLineInput& in) {
  if (!in.spec.shares.empty() || in.spec.vsock) Add(arguments, "-global", "virtio-mmio.force-legacy=off");
}

void AddShares(Arguments& arguments, const CommandLineInput& in) {
  for (size_t i = 0; i < in.spec.shares.size(); ++i) {
    std::string path = Escaped(ShareSocket(in.directory, i).string());
    Add(arguments, "-chardev", fmt::format("socket,id={},path={}", ShareChannel(i), path));
    Add(arguments, "-device", ShareDeviceOptions(in.spec.shares[i], i, in.machine).dump());
  }
}

void AddPmem(Arguments& arguments, const CommandLineInput& in) {
  for (size_t i = 0; i < in.spec.pmem.size(); ++i) {
    const Pmem& pmem = in.spec.pmem[i];
    json memory = {{"qom-type", "memory-backend-file"},
                   {"id", "memory-" + pmem.id},
                   {"size", in.pmem_sizes.at(i).count()},
                   {"mem-path", pmem.path},
                   {"share", !pmem.discard_writes}};
    Add(arguments, "-object", memory.dump());
    json device = {{"driver", "virtio-pmem-pci"}, {"id", "pmem-" + pmem.id}, {"memdev", "memory-" + pmem.id}};
    Add(arguments, "-device", device.dump());
  }
}

// The volume of the guest's mixer is left aside: what it plays arrives as it is.
void AddSmallPcDevices(Arguments& arguments, const CommandLineInput& in) {
  const MachineSpec& spec = in.spec;
  if (spec.tpm) {
    Add(arguments, "-chardev", fmt::format("socket,id=tpm-server,path={}", Escaped(TpmSocket(in.directory).string())));
    Add(arguments, "-tpmdev", "emulator,id=tpm-backend,chardev=tpm-server");
    Add(arguments, "-device", "tpm-crb,tpmdev=tpm-backend");
  }
  if (spec.audio) {
    Add(arguments, "-audiodev", fmt::format("wav,id=speaker,path={}", Escaped((in.directory / "audio.wav").string())));
    Add(arguments, "-device", "ES1370,audiodev=speaker,id=audio");
  }
}

void AddSmallDevices(Arguments& arguments, const CommandLineInput& in) {
  const MachineSpec& spec = in.spec;
  if (spec.rng) {
    Add(arguments, "-object", "rng-builtin,id=entropy");
    Add(arguments, "-device", fmt::format("virtio-rng-{},rng=entropy,id=rng", in.machine.bus));
  }
  if (spec.balloon) {
    Add(arguments, "-device",
        fmt::format("virtio-balloon-{},id=balloon,deflate-on-oom={},free-page-reporting={}", in.machine.bus,
                    spec.balloon->deflate_on_oom ? "on" : "off", spec.balloon->free_page_reporting ? "on" : "off"));
  }
  if (spec.vsock) {
    std::string vhost = in.wiring == Wiring::kDescriptors ? std::to_string(kVsockDescriptor) : "";
    Add(arguments, "-device", VsockDeviceOptions(in.vsock_cid, vhost, in.machine).dump());
  }
  for (const Passthrough& device : spec.passthrough) Add(arguments, "-device", PassthroughDeviceOptions(device).dump());
  if (spec.pvpanic) Add(arguments, "-device", "pvpanic");
  if (spec.watchdog) Add(arguments, "-device", "i6300esb,id=watchdog");
  if (spec.generation_id) Add(arguments, "-device", "vmgenid,guid=auto,id=generation");
  if (spec.graphics) {
    Add(arguments, "-device",
        fmt::format("VGA,id=display,edid=on,xres={},yres={}", spec.graphics->width, spec.graphics->height));
  }
}

// Empty slots, as functions of one device so that they leave the bus to others.
void AddHotplugSlots(Arguments& arguments, const CommandLineInput& in) {
  for (size_t i = 0; i < in.machine.hotplug_slots; ++i) {
    Add(arguments, "-device",
        fmt::format("pcie-root-port,id={},chassis={},addr=0x1e.{}{}", HotplugSlot(i), i + 1, i,
                    i == 0 ? ",multifunction=on" : ""));
  }
}

// The console first; then what the machine and the accelerator need; the spec's own words last, so that they win.
std::string KernelCommandLine(const CommandLineInput& in) {
  std::vector<std::string> words = {"console=ttyS0"};
  if (!in.machine.kernel_words.empty()) words.emplace_back(in.machine.kernel_words);
  // In software emulation the guest's TSC is the host's. microvm has no clock to measure it against.
  if (!in.kvm && in.tsc_khz > 0) words.push_back(fmt::format("tsc_early_khz={}", in.tsc_khz));
  if (in.spec.iommu) words.emplace_back("intel_iommu=on");
  bool grows = std::any_of(in.spec.zones.begin(), in.spec.zones.end(), CanGrow);
  if (grows || in.spec.max_memory > in.spec.memory) words.emplace_back("memhp_default_state=online_movable");
  // Read by kernels since 5.19; an init that has a name of its own overrides it. Before the spec's own words: a
  // hostname there wins, and what follows "--" belongs to init alone.
  words.push_back("hostname=" + in.spec.name);
  if (!in.spec.boot.command_line.empty()) words.push_back(in.spec.boot.command_line);
  return fmt::format("{}", fmt::join(words, " "));
}

// Whether memory is a part of the state has to be told on the control socket before the state is read.
void AddRestore(Arguments& arguments, const CommandLineInput& in) {
  if (in.restore) Add(arguments, "-incoming", "defer");
}

void AddKernel(Arguments& arguments, const CommandLineInput& in) {
  const BootSource& boot = in.spec.boot;
  if (boot.kernel.empty()) return;  // the firmware boots a disk
  Add(arguments, "-kernel", boot.kernel);
  if (!boot.initramfs.empty()) Add(arguments, "-initrd", boot.initramfs);
  Add(arguments, "-append", KernelCommandLine(in));
}

}  // namespace

bool IsMemoryServed(const MachineSpec& spec, const MachineType& machine) {
  return !spec.shares.empty() || machine.hotplug_slots > 0;
}

std::vector<std::string> QemuCommandLine(const CommandLineInput& input) {
  Arguments arguments = {input.program};
  for (auto* add : {AddBasics, AddProcessor, AddMachineAndMemory, AddFirmware, AddIommu, AddChannels, AddUsb, AddDisks,
                    AddPmem, AddZoneRooms, AddNics, AddTransports, AddShares, AddSmallDevices, AddSmallPcDevices,
                    AddHotplugSlots, AddRestore, AddKernel}) {
    add(arguments, input);
  }
  arguments.insert(arguments.end(), input.extra.begin(), input.extra.end());
  return arguments;
}

}  // namespace mayfly::internal
