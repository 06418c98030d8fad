// The fields of the structs of drivers/ch/config.h, listed once, and the words of their enums: what reads and writes
// Cloud Hypervisor's JSON walks them. A field without a name is a struct whose fields stand beside the others.
#pragma once

#include <mayfly/internal/spec_fields.h>

#include "drivers/ch/config.h"

namespace mayfly::internal {

template <>
inline constexpr std::tuple kSpecFields<ch::PciPlace>{
    Field("id", &ch::PciPlace::id), Field("iommu", &ch::PciPlace::iommu),
    Field("pci_segment", &ch::PciPlace::pci_segment), Field("pci_device_id", &ch::PciPlace::pci_device_id)};

template <>
inline constexpr std::tuple kSpecFields<ch::CpuTopology>{Field("threads_per_core", &ch::CpuTopology::threads_per_core),
                                                         Field("cores_per_die", &ch::CpuTopology::cores_per_die),
                                                         Field("dies_per_package", &ch::CpuTopology::dies_per_package),
                                                         Field("packages", &ch::CpuTopology::packages)};

template <>
inline constexpr std::tuple kSpecFields<ch::CpuAffinity>{Field("vcpu", &ch::CpuAffinity::vcpu),
                                                         Field("host_cpus", &ch::CpuAffinity::host_cpus)};

template <>
inline constexpr std::tuple kSpecFields<ch::CpuFeatures>{Field("amx", &ch::CpuFeatures::amx)};

template <>
inline constexpr std::tuple kSpecFields<ch::CpusConfig>{Field("boot_vcpus", &ch::CpusConfig::boot_vcpus),
                                                        Field("max_vcpus", &ch::CpusConfig::max_vcpus),
                                                        Field("topology", &ch::CpusConfig::topology),
                                                        Field("kvm_hyperv", &ch::CpusConfig::kvm_hyperv),
                                                        Field("max_phys_bits", &ch::CpusConfig::max_phys_bits),
                                                        Field("affinity", &ch::CpusConfig::affinity),
                                                        Field("features", &ch::CpusConfig::features),
                                                        Field("nested", &ch::CpusConfig::nested),
                                                        Field("core_scheduling", &ch::CpusConfig::core_scheduling)};

template <>
inline constexpr std::tuple kSpecFields<ch::MemoryZoneConfig>{
    Field("id", &ch::MemoryZoneConfig::id),
    Field("size", &ch::MemoryZoneConfig::size),
    Field("file", &ch::MemoryZoneConfig::file),
    Field("shared", &ch::MemoryZoneConfig::shared),
    Field("hugepages", &ch::MemoryZoneConfig::hugepages),
    Field("hugepage_size", &ch::MemoryZoneConfig::hugepage_size),
    Field("host_numa_node", &ch::MemoryZoneConfig::host_numa_node),
    Field("hotplug_size", &ch::MemoryZoneConfig::hotplug_size),
    Field("hotplugged_size", &ch::MemoryZoneConfig::hotplugged_size),
    Field("prefault", &ch::MemoryZoneConfig::prefault),
    Field("reserve", &ch::MemoryZoneConfig::reserve),
    Field("mergeable", &ch::MemoryZoneConfig::mergeable)};

template <>
inline constexpr std::tuple kSpecFields<ch::MemoryConfig>{Field("size", &ch::MemoryConfig::size),
                                                          Field("mergeable", &ch::MemoryConfig::mergeable),
                                                          Field("hotplug_method", &ch::MemoryConfig::hotplug_method),
                                                          Field("hotplug_size", &ch::MemoryConfig::hotplug_size),
                                                          Field("hotplugged_size", &ch::MemoryConfig::hotplugged_size),
                                                          Field("shared", &ch::MemoryConfig::shared),
                                                          Field("hugepages", &ch::MemoryConfig::hugepages),
                                                          Field("hugepage_size", &ch::MemoryConfig::hugepage_size),
                                                          Field("prefault", &ch::MemoryConfig::prefault),
                                                          Field("reserve", &ch::MemoryConfig::reserve),
                                                          Field("zones", &ch::MemoryConfig::zones),
                                                          Field("thp", &ch::MemoryConfig::thp)};

template <>
inline constexpr std::tuple kSpecFields<ch::PayloadConfig>{
    Field("firmware", &ch::PayloadConfig::firmware), Field("kernel", &ch::PayloadConfig::kernel),
    Field("cmdline", &ch::PayloadConfig::cmdline), Field("initramfs", &ch::PayloadConfig::initramfs)};

template <>
inline constexpr std::tuple kSpecFields<ch::TokenBucketConfig>{
    Field("size", &ch::TokenBucketConfig::size), Field("one_time_burst", &ch::TokenBucketConfig::one_time_burst),
    Field("refill_time", &ch::TokenBucketConfig::refill_time)};

template <>
inline constexpr std::tuple kSpecFields<ch::RateLimiterConfig>{Field("bandwidth", &ch::RateLimiterConfig::bandwidth),
                                                               Field("ops", &ch::RateLimiterConfig::ops)};

template <>
inline constexpr std::tuple kSpecFields<ch::RateLimiterGroupConfig>{
    Field("id", &ch::RateLimiterGroupConfig::id),
    Field("rate_limiter_config", &ch::RateLimiterGroupConfig::rate_limiter_config)};

template <>
inline constexpr std::tuple kSpecFields<ch::QueueAffinity>{Field("queue_index", &ch::QueueAffinity::queue_index),
                                                           Field("host_cpus", &ch::QueueAffinity::host_cpus)};

template <>
inline constexpr std::tuple kSpecFields<ch::DiskConfig>{
    Field("", &ch::DiskConfig::pci),
    Field("path", &ch::DiskConfig::path),
    Field("readonly", &ch::DiskConfig::readonly),
    Field("direct", &ch::DiskConfig::direct),
    Field("num_queues", &ch::DiskConfig::num_queues),
    Field("queue_size", &ch::DiskConfig::queue_size),
    Field("vhost_user", &ch::DiskConfig::vhost_user),
    Field("vhost_socket", &ch::DiskConfig::vhost_socket),
    Field("rate_limit_group", &ch::DiskConfig::rate_limit_group),
    Field("rate_limiter_config", &ch::DiskConfig::rate_limiter_config),
    Field("serial", &ch::DiskConfig::serial),
    Field("queue_affinity", &ch::DiskConfig::queue_affinity),
    Field("backing_files", &ch::DiskConfig::backing_files),
    Field("sparse", &ch::DiskConfig::sparse),
    Field("image_type", &ch::DiskConfig::image_type),
    Field("lock_granularity", &ch::DiskConfig::lock_granularity)};

template <>
inline constexpr std::tuple kSpecFields<ch::NetConfig>{
    Field("", &ch::NetConfig::pci),
    Field("tap", &ch::NetConfig::tap),
    Field("ip", &ch::NetConfig::ip),
    Field("mask", &ch::NetConfig::mask),
    Field("mac", &ch::NetConfig::mac),
    Field("host_mac", &ch::NetConfig::host_mac),
    Field("mtu", &ch::NetConfig::mtu),
    Field("num_queues", &ch::NetConfig::num_queues),
    Field("queue_size", &ch::NetConfig::queue_size),
    Field("vhost_user", &ch::NetConfig::vhost_user),
    Field("vhost_socket", &ch::NetConfig::vhost_socket),
    Field("vhost_mode", &ch::NetConfig::vhost_mode),
    Field("rate_limiter_config", &ch::NetConfig::rate_limiter_config),
    Field("offload_tso", &ch::NetConfig::offload_tso),
    Field("offload_ufo", &ch::NetConfig::offload_ufo),
    Field("offload_csum", &ch::NetConfig::offload_csum)};

template <>
inline constexpr std::tuple kSpecFields<ch::RngConfig>{Field("", &ch::RngConfig::pci),
                                                       Field("src", &ch::RngConfig::src)};

template <>
inline constexpr std::tuple kSpecFields<ch::RtcConfig>{Field("", &ch::RtcConfig::pci)};

template <>
inline constexpr std::tuple kSpecFields<ch::BalloonConfig>{
    Field("", &ch::BalloonConfig::pci), Field("size", &ch::BalloonConfig::size),
    Field("deflate_on_oom", &ch::BalloonConfig::deflate_on_oom),
    Field("free_page_reporting", &ch::BalloonConfig::free_page_reporting)};

template <>
inline constexpr std::tuple kSpecFields<ch::FsConfig>{
    Field("", &ch::FsConfig::pci), Field("tag", &ch::FsConfig::tag), Field("socket", &ch::FsConfig::socket),
    Field("num_queues", &ch::FsConfig::num_queues), Field("queue_size", &ch::FsConfig::queue_size)};

template <>
inline constexpr std::tuple kSpecFields<ch::GenericVhostUserConfig>{
    Field("", &ch::GenericVhostUserConfig::pci), Field("socket", &ch::GenericVhostUserConfig::socket),
    Field("queue_sizes", &ch::GenericVhostUserConfig::queue_sizes),
    Field("device_type", &ch::GenericVhostUserConfig::device_type)};

template <>
inline constexpr std::tuple kSpecFields<ch::PmemConfig>{
    Field("", &ch::PmemConfig::pci), Field("file", &ch::PmemConfig::file), Field("size", &ch::PmemConfig::size),
    Field("discard_writes", &ch::PmemConfig::discard_writes)};

template <>
inline constexpr std::tuple kSpecFields<ch::SerialConfig>{Field("file", &ch::SerialConfig::file),
                                                          Field("mode", &ch::SerialConfig::mode),
                                                          Field("socket", &ch::SerialConfig::socket)};

template <>
inline constexpr std::tuple kSpecFields<ch::ConsoleConfig>{Field("", &ch::ConsoleConfig::pci),
                                                           Field("file", &ch::ConsoleConfig::file),
                                                           Field("mode", &ch::ConsoleConfig::mode)};

template <>
inline constexpr std::tuple kSpecFields<ch::DebugConsoleConfig>{Field("file", &ch::DebugConsoleConfig::file),
                                                                Field("mode", &ch::DebugConsoleConfig::mode),
                                                                Field("iobase", &ch::DebugConsoleConfig::iobase)};

template <>
inline constexpr std::tuple kSpecFields<ch::DeviceConfig>{
    Field("", &ch::DeviceConfig::pci), Field("path", &ch::DeviceConfig::path),
    Field("x_nv_gpudirect_clique", &ch::DeviceConfig::x_nv_gpudirect_clique),
    Field("x_exclude_mmap_bars", &ch::DeviceConfig::x_exclude_mmap_bars)};

template <>
inline constexpr std::tuple kSpecFields<ch::UserDeviceConfig>{Field("", &ch::UserDeviceConfig::pci),
                                                              Field("socket", &ch::UserDeviceConfig::socket)};

template <>
inline constexpr std::tuple kSpecFields<ch::VdpaConfig>{Field("", &ch::VdpaConfig::pci),
                                                        Field("path", &ch::VdpaConfig::path),
                                                        Field("num_queues", &ch::VdpaConfig::num_queues)};

template <>
inline constexpr std::tuple kSpecFields<ch::VsockConfig>{
    Field("", &ch::VsockConfig::pci), Field("cid", &ch::VsockConfig::cid), Field("socket", &ch::VsockConfig::socket)};

template <>
inline constexpr std::tuple kSpecFields<ch::NumaDistance>{Field("destination", &ch::NumaDistance::destination),
                                                          Field("distance", &ch::NumaDistance::distance)};

template <>
inline constexpr std::tuple kSpecFields<ch::NumaConfig>{
    Field("guest_numa_id", &ch::NumaConfig::guest_numa_id), Field("cpus", &ch::NumaConfig::cpus),
    Field("distances", &ch::NumaConfig::distances),         Field("memory_zones", &ch::NumaConfig::memory_zones),
    Field("pci_segments", &ch::NumaConfig::pci_segments),   Field("device_id", &ch::NumaConfig::device_id)};

template <>
inline constexpr std::tuple kSpecFields<ch::PciSegmentConfig>{
    Field("pci_segment", &ch::PciSegmentConfig::pci_segment),
    Field("mmio32_aperture_weight", &ch::PciSegmentConfig::mmio32_aperture_weight),
    Field("mmio64_aperture_weight", &ch::PciSegmentConfig::mmio64_aperture_weight)};

template <>
inline constexpr std::tuple kSpecFields<ch::PlatformConfig>{
    Field("num_pci_segments", &ch::PlatformConfig::num_pci_segments),
    Field("iommu_segments", &ch::PlatformConfig::iommu_segments),
    Field("iommu_address_width_bits", &ch::PlatformConfig::iommu_address_width_bits),
    Field("system_serial_number", &ch::PlatformConfig::system_serial_number),
    Field("system_uuid", &ch::PlatformConfig::system_uuid),
    Field("oem_strings", &ch::PlatformConfig::oem_strings),
    Field("system_manufacturer", &ch::PlatformConfig::system_manufacturer),
    Field("system_product_name", &ch::PlatformConfig::system_product_name),
    Field("system_version", &ch::PlatformConfig::system_version),
    Field("system_family", &ch::PlatformConfig::system_family),
    Field("system_sku_number", &ch::PlatformConfig::system_sku_number),
    Field("chassis_asset_tag", &ch::PlatformConfig::chassis_asset_tag),
    Field("iommufd", &ch::PlatformConfig::iommufd),
    Field("vfio_p2p_dma", &ch::PlatformConfig::vfio_p2p_dma)};

template <>
inline constexpr std::tuple kSpecFields<ch::TpmConfig>{Field("socket", &ch::TpmConfig::socket)};

template <>
inline constexpr std::tuple kSpecFields<ch::LandlockConfig>{Field("path", &ch::LandlockConfig::path),
                                                            Field("access", &ch::LandlockConfig::access)};

template <>
inline constexpr std::tuple kSpecFields<ch::VmConfig>{Field("cpus", &ch::VmConfig::cpus),
                                                      Field("memory", &ch::VmConfig::memory),
                                                      Field("payload", &ch::VmConfig::payload),
                                                      Field("rate_limit_groups", &ch::VmConfig::rate_limit_groups),
                                                      Field("disks", &ch::VmConfig::disks),
                                                      Field("net", &ch::VmConfig::net),
                                                      Field("rng", &ch::VmConfig::rng),
                                                      Field("balloon", &ch::VmConfig::balloon),
                                                      Field("generic_vhost_user", &ch::VmConfig::generic_vhost_user),
                                                      Field("fs", &ch::VmConfig::fs),
                                                      Field("pmem", &ch::VmConfig::pmem),
                                                      Field("serial", &ch::VmConfig::serial),
                                                      Field("console", &ch::VmConfig::console),
                                                      Field("debug_console", &ch::VmConfig::debug_console),
                                                      Field("devices", &ch::VmConfig::devices),
                                                      Field("user_devices", &ch::VmConfig::user_devices),
                                                      Field("vdpa", &ch::VmConfig::vdpa),
                                                      Field("vsock", &ch::VmConfig::vsock),
                                                      Field("pvpanic", &ch::VmConfig::pvpanic),
                                                      Field("iommu", &ch::VmConfig::iommu),
                                                      Field("numa", &ch::VmConfig::numa),
                                                      Field("watchdog", &ch::VmConfig::watchdog),
                                                      Field("rtc", &ch::VmConfig::rtc),
                                                      Field("pci_segments", &ch::VmConfig::pci_segments),
                                                      Field("platform", &ch::VmConfig::platform),
                                                      Field("tpm", &ch::VmConfig::tpm),
                                                      Field("landlock_enable", &ch::VmConfig::landlock_enable),
                                                      Field("landlock_rules", &ch::VmConfig::landlock_rules)};

template <>
inline constexpr std::tuple kSpecFields<ch::Resize>{Field("desired_vcpus", &ch::Resize::desired_vcpus),
                                                    Field("desired_ram", &ch::Resize::desired_ram),
                                                    Field("desired_balloon", &ch::Resize::desired_balloon)};

template <>
inline constexpr std::tuple kSpecFields<ch::RestoredNet>{Field("id", &ch::RestoredNet::id),
                                                         Field("num_fds", &ch::RestoredNet::num_fds)};

template <>
inline constexpr std::tuple kSpecFields<ch::RestoreConfig>{
    Field("source_url", &ch::RestoreConfig::source_url), Field("prefault", &ch::RestoreConfig::prefault),
    Field("memory_restore_mode", &ch::RestoreConfig::memory_restore_mode),
    Field("net_fds", &ch::RestoreConfig::net_fds), Field("resume", &ch::RestoreConfig::resume)};

template <>
inline constexpr std::tuple kSpecFields<ch::SendMigration>{
    Field("destination_url", &ch::SendMigration::destination_url),
    Field("local", &ch::SendMigration::local),
    Field("downtime_ms", &ch::SendMigration::downtime_ms),
    Field("timeout_s", &ch::SendMigration::timeout_s),
    Field("timeout_strategy", &ch::SendMigration::timeout_strategy),
    Field("connections", &ch::SendMigration::connections),
    Field("tls_dir", &ch::SendMigration::tls_dir),
    Field("memory_mode", &ch::SendMigration::memory_mode)};

template <>
inline constexpr std::tuple kSpecFields<ch::ReceiveMigration>{
    Field("receiver_url", &ch::ReceiveMigration::receiver_url), Field("tls_dir", &ch::ReceiveMigration::tls_dir),
    Field("memory_mode", &ch::ReceiveMigration::memory_mode)};

template <>
inline constexpr std::tuple kSpecFields<ch::Ping>{Field("build_version", &ch::Ping::build_version),
                                                  Field("version", &ch::Ping::version), Field("pid", &ch::Ping::pid),
                                                  Field("features", &ch::Ping::features)};

template <>
inline constexpr std::tuple kSpecFields<ch::VmInfo>{Field("config", &ch::VmInfo::config),
                                                    Field("state", &ch::VmInfo::state),
                                                    Field("memory_actual_size", &ch::VmInfo::memory_actual_size)};

template <>
inline constexpr std::tuple kSpecFields<ch::PciDevice>{Field("id", &ch::PciDevice::id),
                                                       Field("bdf", &ch::PciDevice::bdf)};

template <>
inline constexpr std::array<std::string_view, 3> kEnumNames<ch::CoreScheduling>{"Vm", "Vcpu", "Off"};
template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<ch::HotplugMethod>{"Acpi", "VirtioMem"};
template <>
inline constexpr std::array<std::string_view, 5> kEnumNames<ch::ImageType>{"FixedVhd", "Qcow2", "Raw", "Vhdx",
                                                                           "Unknown"};
template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<ch::LockGranularity>{"ByteRange", "Full"};
template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<ch::VhostMode>{"Client", "Server"};
template <>
inline constexpr std::array<std::string_view, 6> kEnumNames<ch::ConsoleMode>{"Off",  "Pty",    "Tty",
                                                                             "File", "Socket", "Null"};
template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<ch::MemoryRestoreMode>{"Copy", "OnDemand"};
template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<ch::MigrationMode>{"Precopy", "Postcopy"};
template <>
inline constexpr std::array<std::string_view, 2> kEnumNames<ch::TimeoutStrategy>{"Cancel", "Ignore"};
template <>
inline constexpr std::array<std::string_view, 5> kEnumNames<ch::VmState>{"Created", "Running", "Shutdown", "Paused",
                                                                         "BreakPoint"};

static_assert(kEnumNames<ch::CoreScheduling>[static_cast<size_t>(ch::CoreScheduling::kOff)] == "Off");
static_assert(kEnumNames<ch::HotplugMethod>[static_cast<size_t>(ch::HotplugMethod::kVirtioMem)] == "VirtioMem");
static_assert(kEnumNames<ch::ImageType>[static_cast<size_t>(ch::ImageType::kUnknown)] == "Unknown");
static_assert(kEnumNames<ch::LockGranularity>[static_cast<size_t>(ch::LockGranularity::kFull)] == "Full");
static_assert(kEnumNames<ch::VhostMode>[static_cast<size_t>(ch::VhostMode::kServer)] == "Server");
static_assert(kEnumNames<ch::ConsoleMode>[static_cast<size_t>(ch::ConsoleMode::kNull)] == "Null");
static_assert(kEnumNames<ch::MemoryRestoreMode>[static_cast<size_t>(ch::MemoryRestoreMode::kOnDemand)] == "OnDemand");
static_assert(kEnumNames<ch::MigrationMode>[static_cast<size_t>(ch::MigrationMode::kPostcopy)] == "Postcopy");
static_assert(kEnumNames<ch::TimeoutStrategy>[static_cast<size_t>(ch::TimeoutStrategy::kIgnore)] == "Ignore");
static_assert(kEnumNames<ch::VmState>[static_cast<size_t>(ch::VmState::kBreakPoint)] == "BreakPoint");

static_assert(EveryMemberHasARow<ch::PciPlace, ch::CpuTopology, ch::CpuAffinity, ch::CpuFeatures, ch::CpusConfig,
                                 ch::MemoryZoneConfig>(),
              "config.h has a member that config_fields.h does not list");
static_assert(EveryMemberHasARow<ch::MemoryConfig, ch::PayloadConfig, ch::TokenBucketConfig, ch::RateLimiterConfig,
                                 ch::RateLimiterGroupConfig, ch::QueueAffinity>(),
              "config.h has a member that config_fields.h does not list");
static_assert(
    EveryMemberHasARow<ch::DiskConfig, ch::NetConfig, ch::RngConfig, ch::RtcConfig, ch::BalloonConfig, ch::FsConfig>(),
    "config.h has a member that config_fields.h does not list");
static_assert(EveryMemberHasARow<ch::GenericVhostUserConfig, ch::PmemConfig, ch::SerialConfig, ch::ConsoleConfig,
                                 ch::DebugConsoleConfig, ch::DeviceConfig>(),
              "config.h has a member that config_fields.h does not list");
static_assert(EveryMemberHasARow<ch::UserDeviceConfig, ch::VdpaConfig, ch::VsockConfig, ch::NumaDistance,
                                 ch::NumaConfig, ch::PciSegmentConfig>(),
              "config.h has a member that config_fields.h does not list");
static_assert(EveryMemberHasARow<ch::PlatformConfig, ch::TpmConfig, ch::LandlockConfig, ch::VmConfig, ch::Resize,
                                 ch::RestoredNet>(),
              "config.h has a member that config_fields.h does not list");
static_assert(EveryMemberHasARow<ch::RestoreConfig, ch::SendMigration, ch::ReceiveMigration, ch::Ping, ch::VmInfo,
                                 ch::PciDevice>(),
              "config.h has a member that config_fields.h does not list");

}  // namespace mayfly::internal
