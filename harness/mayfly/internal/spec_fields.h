// The fields of a MachineSpec and its parts, listed once: what reads, writes, hashes, checks or generates specs walks
// them.
//
//   ForEachField(disk, [](const auto& field, auto& value) { … field.name …; });   // value is Disk::id, then Disk::path
//   … Name(DiskCache::kNone)      // "none"
//
// A new member needs a row here and nothing else; a row that is forgotten does not compile (the static_asserts below).
#pragma once

#include <mayfly/spec.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace mayfly::internal {

// Whether a field is part of CanonicalHash.
enum class Identity { kYes, kNo };

template <class Struct, class Member>
struct SpecField {
  std::string_view name;  // the key in JSON
  Member Struct::* member;
  Identity identity;
};

template <class Struct, class Member>
constexpr SpecField<Struct, Member> Field(std::string_view name, Member Struct::* member,
                                          Identity identity = Identity::kYes) {
  return {name, member, identity};
}

// A tuple of SpecField for each struct of a spec.
template <class Struct>
inline constexpr std::tuple kSpecFields{};

template <>
inline constexpr std::tuple kSpecFields<CpuTopology>{
    Field("sockets", &CpuTopology::sockets), Field("dies", &CpuTopology::dies), Field("cores", &CpuTopology::cores),
    Field("threads", &CpuTopology::threads)};

template <>
inline constexpr std::tuple kSpecFields<CpuAffinity>{Field("vcpu", &CpuAffinity::vcpu),
                                                     Field("host_cpus", &CpuAffinity::host_cpus)};

template <>
inline constexpr std::tuple kSpecFields<MemoryZone>{Field("id", &MemoryZone::id),
                                                    Field("size", &MemoryZone::size),
                                                    Field("max_size", &MemoryZone::max_size),
                                                    Field("cpus", &MemoryZone::cpus),
                                                    Field("hugepages", &MemoryZone::hugepages),
                                                    Field("host_node", &MemoryZone::host_node)};

template <>
inline constexpr std::tuple kSpecFields<Balloon>{Field("size", &Balloon::size),
                                                 Field("deflate_on_oom", &Balloon::deflate_on_oom),
                                                 Field("free_page_reporting", &Balloon::free_page_reporting)};

template <>
inline constexpr std::tuple kSpecFields<BootSource>{
    Field("kernel", &BootSource::kernel), Field("initramfs", &BootSource::initramfs),
    Field("command_line", &BootSource::command_line), Field("firmware", &BootSource::firmware)};

template <>
inline constexpr std::tuple kSpecFields<RateLimit>{Field("bytes_per_second", &RateLimit::bytes_per_second),
                                                   Field("operations_per_second", &RateLimit::operations_per_second)};

template <>
inline constexpr std::tuple kSpecFields<Disk>{
    Field("id", &Disk::id),         Field("path", &Disk::path),         Field("size", &Disk::size),
    Field("format", &Disk::format), Field("readonly", &Disk::readonly), Field("clone", &Disk::clone),
    Field("cache", &Disk::cache),   Field("limit", &Disk::limit),       Field("usb", &Disk::usb)};

template <>
inline constexpr std::tuple kSpecFields<Seed>{Field("user_data", &Seed::user_data),
                                              Field("meta_data", &Seed::meta_data),
                                              Field("network_config", &Seed::network_config)};

template <>
inline constexpr std::tuple kSpecFields<Nic>{Field("id", &Nic::id), Field("kind", &Nic::kind), Field("mac", &Nic::mac),
                                             Field("source", &Nic::source), Field("mtu", &Nic::mtu)};

template <>
inline constexpr std::tuple kSpecFields<Share>{Field("tag", &Share::tag), Field("path", &Share::path),
                                               Field("readonly", &Share::readonly)};

template <>
inline constexpr std::tuple kSpecFields<Vsock>{Field("cid", &Vsock::cid)};

template <>
inline constexpr std::tuple kSpecFields<Tpm>{Field("state", &Tpm::state)};

template <>
inline constexpr std::tuple kSpecFields<Watchdog>{Field("action", &Watchdog::action)};

template <>
inline constexpr std::tuple kSpecFields<Graphics>{Field("width", &Graphics::width), Field("height", &Graphics::height)};

template <>
inline constexpr std::tuple kSpecFields<Pmem>{Field("id", &Pmem::id), Field("path", &Pmem::path),
                                              Field("discard_writes", &Pmem::discard_writes)};

template <>
inline constexpr std::tuple kSpecFields<Passthrough>{Field("id", &Passthrough::id), Field("kind", &Passthrough::kind),
                                                     Field("path", &Passthrough::path)};

template <>
inline constexpr std::tuple kSpecFields<MachineSpec>{
    Field("cpus", &MachineSpec::cpus),
    Field("memory", &MachineSpec::memory),
    Field("image", &MachineSpec::image),
    Field("name", &MachineSpec::name, Identity::kNo),
    Field("boot", &MachineSpec::boot),
    Field("max_cpus", &MachineSpec::max_cpus),
    Field("topology", &MachineSpec::topology),
    Field("affinity", &MachineSpec::affinity),
    Field("nested_virtualization", &MachineSpec::nested_virtualization),
    Field("iommu", &MachineSpec::iommu),
    Field("max_memory", &MachineSpec::max_memory),
    Field("hugepages", &MachineSpec::hugepages),
    Field("zones", &MachineSpec::zones),
    Field("balloon", &MachineSpec::balloon),
    Field("disks", &MachineSpec::disks),
    Field("pmem", &MachineSpec::pmem),
    Field("seed", &MachineSpec::seed),
    Field("nics", &MachineSpec::nics),
    Field("shares", &MachineSpec::shares),
    Field("serial", &MachineSpec::serial),
    Field("rng", &MachineSpec::rng),
    Field("vsock", &MachineSpec::vsock),
    Field("tpm", &MachineSpec::tpm),
    Field("watchdog", &MachineSpec::watchdog),
    Field("graphics", &MachineSpec::graphics),
    Field("audio", &MachineSpec::audio),
    Field("pvpanic", &MachineSpec::pvpanic),
    Field("generation_id", &MachineSpec::generation_id),
    Field("usb", &MachineSpec::usb),
    Field("rosetta", &MachineSpec::rosetta),
    Field("passthrough", &MachineSpec::passthrough),
    Field("accelerator", &MachineSpec::accelerator),
    Field("machine", &MachineSpec::machine),
    Field("driver", &MachineSpec::driver, Identity::kNo),
    Field("agent", &MachineSpec::agent),
    Field("boot_timeout", &MachineSpec::boot_timeout, Identity::kNo)};

// The words of an enum's values in JSON, in the order of the enumerators, which count from 0.
template <class Enum>
inline constexpr std::array<std::string_view, 0> kEnumNames{};

template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<DiskFormat>{"raw", "qcow2"};
template <>
inline constexpr std::array<std::string_view, 4> kEnumNames<DiskCache>{"unsafe", "writeback", "none", "writethrough"};
template <>
inline constexpr std::array<std::string_view, 6> kEnumNames<NicKind>{"none",   "nat",     "tap",
                                                                     "socket", "bridged", "vhost-user"};
template <>
inline constexpr std::array<std::string_view, 3> kEnumNames<SerialKind>{"file", "pty", "socket"};
template <>
inline constexpr std::array<std::string_view, 4> kEnumNames<WatchdogAction>{"reset", "power-off", "pause", "none"};
template <>
inline constexpr std::array<std::string_view, 3> kEnumNames<PassthroughKind>{"vfio", "vfio-user", "vdpa"};
template <>
inline constexpr std::array<std::string_view, 3> kEnumNames<Accelerator>{"auto", "hardware", "software"};
template <>
inline constexpr std::array<std::string_view, 3> kEnumNames<MachineKind>{"auto", "micro", "pc"};

static_assert(kEnumNames<DiskFormat>[static_cast<size_t>(DiskFormat::kQcow2)] == "qcow2");
static_assert(kEnumNames<DiskCache>[static_cast<size_t>(DiskCache::kWritethrough)] == "writethrough");
static_assert(kEnumNames<NicKind>[static_cast<size_t>(NicKind::kVhostUser)] == "vhost-user");
static_assert(kEnumNames<SerialKind>[static_cast<size_t>(SerialKind::kSocket)] == "socket");
static_assert(kEnumNames<WatchdogAction>[static_cast<size_t>(WatchdogAction::kNone)] == "none");
static_assert(kEnumNames<PassthroughKind>[static_cast<size_t>(PassthroughKind::kVdpa)] == "vdpa");
static_assert(kEnumNames<Accelerator>[static_cast<size_t>(Accelerator::kSoftware)] == "software");
static_assert(kEnumNames<MachineKind>[static_cast<size_t>(MachineKind::kPc)] == "pc");

// What a field's type is.
template <class T>
concept SpecStruct = std::tuple_size_v<std::remove_cvref_t<decltype(kSpecFields<std::remove_const_t<T>>)>> > 0;
template <class T>
concept SpecEnum = std::is_enum_v<T>;
template <class T>
concept SpecList = std::is_same_v<T, std::vector<typename T::value_type>>;
template <class T>
concept SpecOptional = std::is_same_v<T, std::optional<typename T::value_type>>;

// The word of an enum's value; empty for a value that it does not have.
template <SpecEnum Enum>
constexpr std::string_view Name(Enum value) {
  static_assert(!kEnumNames<Enum>.empty());
  auto index = static_cast<size_t>(value);
  return index < kEnumNames<Enum>.size() ? kEnumNames<Enum>[index] : std::string_view();
}

// Calls visit(field, object.*field.member) for each field, in order.
template <class Object, class Visit>
  requires SpecStruct<Object>
constexpr void ForEachField(Object& object, Visit&& visit) {
  std::apply([&](const auto&... field) { (visit(field, object.*field.member), ...); },
             kSpecFields<std::remove_const_t<Object>>);
}

// The number of members of an aggregate: the most initializers that it takes.
struct AnyInitializer {
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor): it stands for a value of any type
};
template <class T, size_t... kIndex>
constexpr bool TakesInitializers(std::index_sequence<kIndex...> /*count*/) {
  return requires { T{(static_cast<void>(kIndex), AnyInitializer())...}; };
}
template <class T, size_t kCount = 0>
constexpr size_t MemberCount() {
  if constexpr (TakesInitializers<T>(std::make_index_sequence<kCount + 1>())) {
    return MemberCount<T, kCount + 1>();
  } else {
    return kCount;
  }
}

template <class... Structs>
constexpr bool EveryMemberHasARow() {
  return ((std::tuple_size_v<std::remove_cvref_t<decltype(kSpecFields<Structs>)>> == MemberCount<Structs>()) && ...);
}
static_assert(EveryMemberHasARow<MachineSpec, BootSource, CpuTopology, CpuAffinity, MemoryZone, Balloon>(),
              "spec.h has a member that spec_fields.h does not list");
static_assert(EveryMemberHasARow<Disk, RateLimit, Pmem, Seed, Nic, Share>(),
              "spec.h has a member that spec_fields.h does not list");
static_assert(EveryMemberHasARow<Vsock, Tpm, Watchdog, Graphics, Passthrough>(),
              "spec.h has a member that spec_fields.h does not list");

}  // namespace mayfly::internal
