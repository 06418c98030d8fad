// What a machine's NICs are connected to, from its start and while it runs.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/errors.h>
#include <mayfly/internal/spec_devices.h>
#include <mayfly/internal/tap.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "drivers/qemu/capabilities.h"
#include "drivers/qemu/device_options.h"
#include "drivers/qemu/qemu_machine.h"
#include "drivers/qemu/qmp.h"

namespace mayfly::internal {

using nlohmann::json;

namespace {

QmpCommand Removal(const json& netdev) { return {"netdev_del", {{"id", netdev.at("id")}}}; }

}  // namespace

// As the command line places them.
void QemuMachine::ResetNics() {
  places_.clear();
  taps_.clear();
  for (next_wire_ = 0; next_wire_ < spec_.nics.size(); ++next_wire_) {
    places_[spec_.nics[next_wire_].id] = {.hub = next_wire_, .wire = next_wire_};
  }
}

Tap QemuMachine::TapFor(const Nic& nic) const {
  try {
    return nic.source.empty() ? MakeTap() : OpenTap(nic.source);
  } catch (HostLacks& error) {
    error.AddNote(fmt::format("it was to be NIC '{}' of '{}'", nic.id, name()));
    throw;
  }
}

void QemuMachine::RequireAllowedNic(const Nic& nic) const {
  MachineSpec asked;
  asked.nics.push_back(nic);
  RefuseWhatIsNotOffered(asked);
  Validate(asked, fmt::format("'{}'", name()));
}

// The ends of a new wire. `tap` becomes its TAP device, which QEMU is given.
std::vector<json> QemuMachine::NewWire(const Nic& nic, const NicPlace& place, Tap& tap) {
  std::string descriptor;
  if (nic.kind == NicKind::kTap) {
    tap = TapFor(nic);
    descriptor = fmt::format("tap-{}", place.wire);
    process_->qmp().Execute("getfd", {{"fdname", descriptor}}, Deadline::After(Scaled(std::chrono::seconds(30))),
                            std::move(tap.descriptor));
  }
  return WireOptions(nic, place, sandbox_.directory(), descriptor);
}

void QemuMachine::RemoveWire(const Nic& nic, const NicPlace& place) {
  if (nic.kind == NicKind::kNone) return;
  for (const std::string& end : {WirePort(place.wire), WireBackend(place.wire)}) Execute("netdev_del", {{"id", end}});
}

void QemuMachine::SwitchLink(const std::string& nic, bool up) {
  Execute("set_link", {{"name", NicDevice(nic)}, {"up", up}});
}

void QemuMachine::SetCarrier(const Nic& nic) {
  if (nic.kind == NicKind::kNone) SwitchLink(nic.id, false);
}

void QemuMachine::AddNic(const Nic& nic) {
  RequireHotplug(Capability::kNetworkHotplug);
  RequireNewId(nic.id);
  RequireAllowedNic(nic);
  Nic added = nic;
  if (added.mac.empty()) added.mac = RandomMac();
  const NicPlace place{.hub = next_wire_, .wire = next_wire_};
  ++next_wire_;
  Tap tap;
  std::vector<QmpCommand> undo;  // the last one first
  try {
    std::vector<json> ends = NewWire(added, place, tap);
    ends.insert(ends.begin(), NicPortOptions(added, place));
    for (const json& end : ends) {
      Execute("netdev_add", end);
      undo.insert(undo.begin(), Removal(end));
    }
  } catch (Error&) {
    Undo(undo);
    throw;
  }
  PlugIn(nic.id, NicDeviceOptions(added, *machine_.type), undo);
  places_[nic.id] = place;
  if (nic.kind == NicKind::kTap) taps_[nic.id] = std::move(tap);
  spec_.nics.push_back(added);
  SetCarrier(added);
}

void QemuMachine::ForgetNic(const std::string& id) {
  auto nic = std::find_if(spec_.nics.begin(), spec_.nics.end(), [&](const Nic& n) { return n.id == id; });
  RemoveWire(*nic, places_.at(id));
  Execute("netdev_del", {{"id", NicPort(id)}});
  places_.erase(id);
  taps_.erase(id);
  spec_.nics.erase(nic);
}

// While the cable is out frames are lost, as with a real one; a hub without another port would keep them.
void QemuMachine::AttachNic(const Nic& nic) {
  auto here = std::find_if(spec_.nics.begin(), spec_.nics.end(), [&](const Nic& n) { return n.id == nic.id; });
  if (here == spec_.nics.end()) {
    std::vector<std::string> known;
    for (const Nic& each : spec_.nics) known.push_back(each.id);
    throw BadSpec({.summary = fmt::format("'{}' has no NIC \"{}\"; it has: {}", name(), nic.id,
                                          known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")))});
  }
  Nic next = *here;
  next.kind = nic.kind;
  next.source = nic.source;
  RequireAllowedNic(next);
  NicPlace& place = places_.at(nic.id);
  const NicPlace other{.hub = place.hub, .wire = next_wire_++};
  SwitchLink(nic.id, false);
  Tap tap;
  std::vector<json> ends;
  try {
    ends = NewWire(next, other, tap);
    if (!ends.empty()) Execute("netdev_add", ends.front());
  } catch (Error&) {
    SwitchLink(nic.id, here->kind != NicKind::kNone);
    throw;
  }
  RemoveWire(*here, place);
  taps_.erase(nic.id);
  if (!ends.empty()) Execute("netdev_add", ends.back());
  if (next.kind == NicKind::kTap) taps_[nic.id] = std::move(tap);
  place = other;
  *here = next;
  if (next.kind != NicKind::kNone) SwitchLink(nic.id, true);
}

TapEnd QemuMachine::HostEndOf(const std::string& nic) const {
  auto tap = taps_.find(nic);
  if (tap != taps_.end()) return {.device = tap->second.device, .enter = WordsToEnter(tap->second)};
  throw BadSpec({.summary = fmt::format("'{}' has no running NIC \"{}\" of kind tap", name(), nic)});
}

}  // namespace mayfly::internal
