#include "drivers/vz/facsimile/virtualization/guest_hardware.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace mayfly::facsimile {
namespace {

constexpr int kFirstDescriptor = 10;  // of QEMU's, so that none of ours is in the way

class Builder {
 public:
  void Add(std::string option, std::string value) {
    command_.arguments.push_back(std::move(option));
    command_.arguments.push_back(std::move(value));
  }
  void Add(std::string flag) { command_.arguments.push_back(std::move(flag)); }
  void Device(const nlohmann::json& device) { Add("-device", device.dump()); }

  // QEMU's number for one of our descriptors.
  int Inherit(int descriptor) {
    int theirs = kFirstDescriptor + static_cast<int>(command_.inherit.size());
    command_.inherit.emplace_back(descriptor, theirs);
    return theirs;
  }

  // A character device for the channel, and its name.
  std::string Channel(const GuestChannel& channel) {
    std::string id = fmt::format("channel{}", channels_++);
    if (channel.socket >= 0) {
      Add("-chardev", fmt::format("socket,id={},fd={}", id, Inherit(channel.socket)));
    } else if (!channel.file.empty()) {
      Add("-chardev",
          fmt::format("file,id={},path={},append={}", id, Escaped(channel.file), channel.append ? "on" : "off"));
    } else {
      Add("-chardev", fmt::format("null,id={}", id));
    }
    return id;
  }

  // QEMU's key=value options take a comma as two.
  static std::string Escaped(const std::string& text) {
    std::string escaped;
    for (char c : text) escaped.append(c == ',' ? 2 : 1, c);
    return escaped;
  }

  GuestCommand Take() { return std::move(command_); }

 private:
  GuestCommand command_;
  size_t channels_ = 0;
};

// PCI throughout, as on a Mac, and nothing that the configuration does not name.
void AddMachine(Builder& builder, const GuestHardware& guest) {
  for (const char* flag : {"-nodefaults", "-no-user-config"}) builder.Add(flag);
  builder.Add("-display", "none");
  builder.Add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  builder.Add("-action", "reboot=reset,shutdown=poweroff");
  builder.Add("-rtc", "base=utc");
  builder.Add("-accel", "tcg,thread=multi,tb-size=64");
  builder.Add("-cpu", "max");
  builder.Add("-smp", fmt::format("cpus={0},sockets=1,cores={0}", guest.cpus));
  // The servers of shares read and write the guest's memory.
  bool served = !guest.shares.empty();
  nlohmann::json memory = {
      {"qom-type", served ? "memory-backend-memfd" : "memory-backend-ram"}, {"id", "ram"}, {"size", guest.memory}};
  if (served) memory["share"] = true;
  builder.Add("-object", memory.dump());
  builder.Add("-m", fmt::format("size={}k", guest.memory >> 10));
  builder.Add("-M", "q35,acpi=on,smbus=off,sata=off,vmport=off,usb=off,graphics=off,memory-backend=ram");
}

void AddPorts(Builder& builder, const GuestHardware& guest) {
  size_t device = 0;
  for (const GuestChannel& channel : guest.serial_ports) {
    std::string bus = fmt::format("serial{}", device++);
    builder.Device({{"driver", "virtio-serial-pci"}, {"id", bus}, {"max_ports", 1}});
    builder.Device({{"driver", "virtconsole"}, {"bus", bus + ".0"}, {"chardev", builder.Channel(channel)}});
  }
  for (const std::vector<GuestPort>& ports : guest.console_devices) {
    std::string bus = fmt::format("console{}", device++);
    builder.Device({{"driver", "virtio-serial-pci"}, {"id", bus}, {"max_ports", ports.size() + 1}});
    for (const GuestPort& port : ports) {
      builder.Device({{"driver", port.console ? "virtconsole" : "virtserialport"},
                      {"bus", bus + ".0"},
                      {"name", port.name},
                      {"chardev", builder.Channel(port.channel)}});
    }
  }
}

void AddDisks(Builder& builder, const GuestHardware& guest) {
  for (size_t i = 0; i < guest.disks.size(); ++i) {
    const GuestDisk& disk = guest.disks[i];
    nlohmann::json cache = {{"direct", !disk.cached}, {"no-flush", !disk.flushes}};
    nlohmann::json node = {{"driver", "raw"},
                           {"node-name", fmt::format("disk{}", i)},
                           {"read-only", disk.read_only},
                           {"cache", cache},
                           {"file", {{"driver", "file"}, {"filename", disk.file}, {"cache", cache}}}};
    if (!disk.read_only) node["discard"] = node["file"]["discard"] = "unmap";
    builder.Add("-blockdev", node.dump());
    nlohmann::json device = {{"driver", "virtio-blk-pci"}, {"drive", fmt::format("disk{}", i)}};
    if (!disk.identifier.empty()) device["serial"] = disk.identifier;
    builder.Device(device);
  }
}

void AddNics(Builder& builder, const GuestHardware& guest) {
  for (size_t i = 0; i < guest.nics.size(); ++i) {
    const GuestNic& nic = guest.nics[i];
    std::string id = fmt::format("nic{}", i);
    nlohmann::json device = {{"driver", "virtio-net-pci"}, {"id", id + "-device"}, {"mac", nic.mac}};
    if (nic.mtu > 0) device["host_mtu"] = nic.mtu;
    if (nic.kind == GuestNic::Kind::kNat) {
      builder.Add("-netdev", fmt::format("user,id={},net=192.168.64.0/24,host=192.168.64.1", id));
    } else if (nic.kind == GuestNic::Kind::kDatagrams) {
      builder.Add("-netdev", fmt::format("dgram,id={},local.type=fd,local.str={}", id, builder.Inherit(nic.socket)));
    }
    if (nic.kind != GuestNic::Kind::kUnplugged) device["netdev"] = id;
    builder.Device(device);
  }
}

void AddShares(Builder& builder, const GuestHardware& guest, const std::vector<std::string>& sockets) {
  for (size_t i = 0; i < guest.shares.size(); ++i) {
    std::string id = fmt::format("share{}", i);
    builder.Add("-chardev", fmt::format("socket,id={},path={}", id, Builder::Escaped(sockets.at(i))));
    builder.Device({{"driver", "vhost-user-fs-pci"}, {"chardev", id}, {"tag", guest.shares[i].tag}});
  }
}

}  // namespace

GuestCommand CommandOf(const GuestHardware& guest, int control, const std::vector<std::string>& share_sockets) {
  Builder builder;
  AddMachine(builder, guest);
  builder.Add("-chardev", fmt::format("socket,id=control,fd={}", builder.Inherit(control)));
  builder.Add("-mon", "chardev=control,mode=control");
  AddPorts(builder, guest);
  AddDisks(builder, guest);
  AddNics(builder, guest);
  AddShares(builder, guest, share_sockets);
  if (guest.entropy) {
    builder.Add("-object", "rng-builtin,id=entropy");
    builder.Device({{"driver", "virtio-rng-pci"}, {"rng", "entropy"}});
  }
  if (guest.balloon) builder.Device({{"driver", "virtio-balloon-pci"}, {"id", "balloon"}});
  builder.Add("-kernel", guest.kernel);
  if (!guest.initial_ramdisk.empty()) builder.Add("-initrd", guest.initial_ramdisk);
  builder.Add("-append", guest.command_line);
  return builder.Take();
}

}  // namespace mayfly::facsimile
