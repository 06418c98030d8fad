// What Cloud Hypervisor's API takes and gives, as typed structs (names and meanings are its own, vm_config.rs of v53).
//
//   VmConfig config{.cpus = CpusConfig{.boot_vcpus = 2, .max_vcpus = 4},
//                   .payload = PayloadConfig{.kernel = "/boot/vmlinuz"},
//                   .disks = {{.pci = {.id = "root"}, .path = "/tmp/disk.raw", .image_type = ImageType::kRaw}}};
//   std::string json = ToJson(config).dump();
//
// Only what is set is serialised: an empty optional, list or text leaves Cloud Hypervisor's default. It ignores keys
// that it does not know without a word, which is why these are structs and not JSON. Sizes are in bytes. Reading is
// tolerant: unknown keys are other versions' and skipped; a wrong type throws BadAnswer, which names the key.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace mayfly::ch {

// Where a device sits. Ids are unique across all classes of devices, memory zones included, and do not begin with
// "__"; a device without one is named by a counter that all classes share.
struct PciPlace {
  std::string id{};
  std::optional<bool> iommu{};
  std::optional<uint16_t> pci_segment{};
  std::optional<uint8_t> pci_device_id{};
  friend bool operator==(const PciPlace&, const PciPlace&) = default;
};

struct CpuTopology {  // the product is max_vcpus
  uint16_t threads_per_core = 1;
  uint16_t cores_per_die = 1;
  uint16_t dies_per_package = 1;
  uint16_t packages = 1;
  friend bool operator==(const CpuTopology&, const CpuTopology&) = default;
};

struct CpuAffinity {
  uint32_t vcpu = 0;
  std::vector<uint32_t> host_cpus{};
  friend bool operator==(const CpuAffinity&, const CpuAffinity&) = default;
};

struct CpuFeatures {
  std::optional<bool> amx{};
  friend bool operator==(const CpuFeatures&, const CpuFeatures&) = default;
};

enum class CoreScheduling { kVm, kVcpu, kOff };

struct CpusConfig {
  uint32_t boot_vcpus = 1;
  uint32_t max_vcpus = 1;
  std::optional<CpuTopology> topology{};
  std::optional<bool> kvm_hyperv{};
  std::optional<uint8_t> max_phys_bits{};
  std::vector<CpuAffinity> affinity{};
  std::optional<CpuFeatures> features{};
  std::optional<bool> nested{};
  std::optional<CoreScheduling> core_scheduling{};
  friend bool operator==(const CpusConfig&, const CpusConfig&) = default;
};

struct MemoryZoneConfig {
  std::string id{};
  uint64_t size = 0;
  std::string file{};
  std::optional<bool> shared{};
  std::optional<bool> hugepages{};
  std::optional<uint64_t> hugepage_size{};
  std::optional<uint32_t> host_numa_node{};
  std::optional<uint64_t> hotplug_size{};
  std::optional<uint64_t> hotplugged_size{};
  std::optional<bool> prefault{};
  std::optional<bool> reserve{};
  std::optional<bool> mergeable{};
  friend bool operator==(const MemoryZoneConfig&, const MemoryZoneConfig&) = default;
};

enum class HotplugMethod { kAcpi, kVirtioMem };

struct MemoryConfig {
  uint64_t size = 0;  // 0 with zones
  std::optional<bool> mergeable{};
  std::optional<HotplugMethod> hotplug_method{};
  std::optional<uint64_t> hotplug_size{};
  std::optional<uint64_t> hotplugged_size{};
  std::optional<bool> shared{};
  std::optional<bool> hugepages{};
  std::optional<uint64_t> hugepage_size{};
  std::optional<bool> prefault{};
  std::optional<bool> reserve{};  // with hugepages always: without it an empty pool kills the VMM by SIGBUS
  std::vector<MemoryZoneConfig> zones{};
  std::optional<bool> thp{};
  friend bool operator==(const MemoryConfig&, const MemoryConfig&) = default;
};

struct PayloadConfig {  // a firmware, or a kernel
  std::string firmware{};
  std::string kernel{};
  std::string cmdline{};
  std::string initramfs{};
  friend bool operator==(const PayloadConfig&, const PayloadConfig&) = default;
};

struct TokenBucketConfig {
  uint64_t size = 0;
  std::optional<uint64_t> one_time_burst{};
  uint64_t refill_time = 0;  // ms
  friend bool operator==(const TokenBucketConfig&, const TokenBucketConfig&) = default;
};

struct RateLimiterConfig {
  std::optional<TokenBucketConfig> bandwidth{};
  std::optional<TokenBucketConfig> ops{};
  friend bool operator==(const RateLimiterConfig&, const RateLimiterConfig&) = default;
};

struct RateLimiterGroupConfig {
  std::string id{};
  RateLimiterConfig rate_limiter_config{};
  friend bool operator==(const RateLimiterGroupConfig&, const RateLimiterGroupConfig&) = default;
};

struct QueueAffinity {
  uint16_t queue_index = 0;
  std::vector<uint32_t> host_cpus{};
  friend bool operator==(const QueueAffinity&, const QueueAffinity&) = default;
};

enum class ImageType { kFixedVhd, kQcow2, kRaw, kVhdx, kUnknown };
enum class LockGranularity { kByteRange, kFull };

struct DiskConfig {
  PciPlace pci{};
  std::string path{};
  std::optional<bool> readonly{};
  std::optional<bool> direct{};
  std::optional<uint32_t> num_queues{};
  std::optional<uint16_t> queue_size{};
  std::optional<bool> vhost_user{};
  std::string vhost_socket{};
  std::string rate_limit_group{};
  std::optional<RateLimiterConfig> rate_limiter_config{};
  std::string serial{};  // at most 20 bytes; without one it changes at every restore
  std::vector<QueueAffinity> queue_affinity{};
  std::optional<bool> backing_files{};
  std::optional<bool> sparse{};
  // Without it a raw disk's first sector cannot be written.
  std::optional<ImageType> image_type{};
  std::optional<LockGranularity> lock_granularity{};
  friend bool operator==(const DiskConfig&, const DiskConfig&) = default;
};

enum class VhostMode { kClient, kServer };

struct NetConfig {  // descriptors travel beside it, see Api::AddNet
  PciPlace pci{};
  std::string tap{};
  std::string ip{};
  std::string mask{};
  std::string mac{};
  std::string host_mac{};
  std::optional<uint16_t> mtu{};
  std::optional<uint32_t> num_queues{};  // twice the number of descriptors
  std::optional<uint16_t> queue_size{};
  std::optional<bool> vhost_user{};
  std::string vhost_socket{};
  std::optional<VhostMode> vhost_mode{};
  std::optional<RateLimiterConfig> rate_limiter_config{};
  std::optional<bool> offload_tso{};
  std::optional<bool> offload_ufo{};
  std::optional<bool> offload_csum{};
  friend bool operator==(const NetConfig&, const NetConfig&) = default;
};

struct RngConfig {
  PciPlace pci{};
  std::string src = "/dev/urandom";
  friend bool operator==(const RngConfig&, const RngConfig&) = default;
};

struct RtcConfig {
  PciPlace pci{};
  friend bool operator==(const RtcConfig&, const RtcConfig&) = default;
};

struct BalloonConfig {
  PciPlace pci{};
  uint64_t size = 0;
  std::optional<bool> deflate_on_oom{};
  std::optional<bool> free_page_reporting{};
  friend bool operator==(const BalloonConfig&, const BalloonConfig&) = default;
};

struct FsConfig {  // needs shared memory
  PciPlace pci{};
  std::string tag{};
  std::string socket{};
  std::optional<uint32_t> num_queues{};
  std::optional<uint16_t> queue_size{};
  friend bool operator==(const FsConfig&, const FsConfig&) = default;
};

struct GenericVhostUserConfig {  // needs shared memory
  PciPlace pci{};
  std::string socket{};
  std::vector<uint16_t> queue_sizes{};
  uint32_t device_type = 0;
  friend bool operator==(const GenericVhostUserConfig&, const GenericVhostUserConfig&) = default;
};

struct PmemConfig {
  PciPlace pci{};
  std::string file{};
  std::optional<uint64_t> size{};
  std::optional<bool> discard_writes{};
  friend bool operator==(const PmemConfig&, const PmemConfig&) = default;
};

enum class ConsoleMode { kOff, kPty, kTty, kFile, kSocket, kNull };

struct SerialConfig {  // kSocket: serial only
  std::string file{};
  ConsoleMode mode = ConsoleMode::kNull;
  std::string socket{};
  friend bool operator==(const SerialConfig&, const SerialConfig&) = default;
};

struct ConsoleConfig {
  PciPlace pci{};
  std::string file{};
  ConsoleMode mode = ConsoleMode::kOff;
  friend bool operator==(const ConsoleConfig&, const ConsoleConfig&) = default;
};

struct DebugConsoleConfig {
  std::string file{};
  ConsoleMode mode = ConsoleMode::kOff;
  std::optional<uint16_t> iobase{};
  friend bool operator==(const DebugConsoleConfig&, const DebugConsoleConfig&) = default;
};

struct DeviceConfig {  // VFIO: a path, or a descriptor beside it
  PciPlace pci{};
  std::string path{};
  std::optional<uint8_t> x_nv_gpudirect_clique{};
  std::vector<uint64_t> x_exclude_mmap_bars{};
  friend bool operator==(const DeviceConfig&, const DeviceConfig&) = default;
};

struct UserDeviceConfig {
  PciPlace pci{};
  std::string socket{};
  friend bool operator==(const UserDeviceConfig&, const UserDeviceConfig&) = default;
};

struct VdpaConfig {  // needs shared memory: without it the guest hangs without any error
  PciPlace pci{};
  std::string path{};
  std::optional<uint32_t> num_queues{};
  friend bool operator==(const VdpaConfig&, const VdpaConfig&) = default;
};

struct VsockConfig {
  PciPlace pci{};
  uint32_t cid = 3;
  std::string socket{};
  friend bool operator==(const VsockConfig&, const VsockConfig&) = default;
};

struct NumaDistance {
  uint32_t destination = 0;
  uint8_t distance = 10;
  friend bool operator==(const NumaDistance&, const NumaDistance&) = default;
};

struct NumaConfig {
  uint32_t guest_numa_id = 0;
  std::vector<uint32_t> cpus{};
  std::vector<NumaDistance> distances{};
  std::vector<std::string> memory_zones{};
  std::vector<uint16_t> pci_segments{};
  std::string device_id{};
  friend bool operator==(const NumaConfig&, const NumaConfig&) = default;
};

struct PciSegmentConfig {
  uint16_t pci_segment = 0;
  std::optional<uint32_t> mmio32_aperture_weight{};
  std::optional<uint32_t> mmio64_aperture_weight{};
  friend bool operator==(const PciSegmentConfig&, const PciSegmentConfig&) = default;
};

struct PlatformConfig {
  std::optional<uint16_t> num_pci_segments{};
  std::vector<uint16_t> iommu_segments{};
  std::optional<uint8_t> iommu_address_width_bits{};
  std::string system_serial_number{};
  std::string system_uuid{};
  std::vector<std::string> oem_strings{};
  std::string system_manufacturer{};
  std::string system_product_name{};
  std::string system_version{};
  std::string system_family{};
  std::string system_sku_number{};
  std::string chassis_asset_tag{};
  std::optional<bool> iommufd{};
  std::optional<bool> vfio_p2p_dma{};
  friend bool operator==(const PlatformConfig&, const PlatformConfig&) = default;
};

struct TpmConfig {
  std::string socket{};
  friend bool operator==(const TpmConfig&, const TpmConfig&) = default;
};

struct LandlockConfig {
  std::string path{};
  std::string access{};  // "r", "w", "rw"
  friend bool operator==(const LandlockConfig&, const LandlockConfig&) = default;
};

struct VmConfig {
  std::optional<CpusConfig> cpus{};
  std::optional<MemoryConfig> memory{};
  std::optional<PayloadConfig> payload{};
  std::vector<RateLimiterGroupConfig> rate_limit_groups{};
  std::vector<DiskConfig> disks{};
  std::vector<NetConfig> net{};
  std::optional<RngConfig> rng{};
  std::optional<BalloonConfig> balloon{};
  std::vector<GenericVhostUserConfig> generic_vhost_user{};
  std::vector<FsConfig> fs{};
  std::vector<PmemConfig> pmem{};
  std::optional<SerialConfig> serial{};    // unset: kNull
  std::optional<ConsoleConfig> console{};  // unset: kTty, the VMM's standard output
  std::optional<DebugConsoleConfig> debug_console{};
  std::vector<DeviceConfig> devices{};
  std::vector<UserDeviceConfig> user_devices{};
  std::vector<VdpaConfig> vdpa{};
  std::optional<VsockConfig> vsock{};
  std::optional<bool> pvpanic{};
  std::optional<bool> iommu{};
  std::vector<NumaConfig> numa{};
  std::optional<bool> watchdog{};
  std::optional<RtcConfig> rtc{};
  std::vector<PciSegmentConfig> pci_segments{};
  std::optional<PlatformConfig> platform{};
  std::optional<TpmConfig> tpm{};
  std::optional<bool> landlock_enable{};
  std::vector<LandlockConfig> landlock_rules{};
  friend bool operator==(const VmConfig&, const VmConfig&) = default;
};

// --- Requests -------------------------------------------------------------------------------------------------------

struct Resize {
  std::optional<uint32_t> desired_vcpus{};
  std::optional<uint64_t> desired_ram{};
  std::optional<uint64_t> desired_balloon{};
  friend bool operator==(const Resize&, const Resize&) = default;
};

enum class MemoryRestoreMode { kCopy, kOnDemand };

struct RestoredNet {
  std::string id{};
  uint32_t num_fds = 0;
  friend bool operator==(const RestoredNet&, const RestoredNet&) = default;
};

struct RestoreConfig {
  std::string source_url{};  // file:///directory
  std::optional<bool> prefault{};
  std::optional<MemoryRestoreMode> memory_restore_mode{};
  std::vector<RestoredNet> net_fds{};  // in the order of the descriptors
  std::optional<bool> resume{};
  friend bool operator==(const RestoreConfig&, const RestoreConfig&) = default;
};

enum class MigrationMode { kPrecopy, kPostcopy };
enum class TimeoutStrategy { kCancel, kIgnore };

struct SendMigration {
  std::string destination_url{};  // unix:PATH or tcp:HOST:PORT
  std::optional<bool> local{};
  std::optional<uint64_t> downtime_ms{};
  std::optional<uint64_t> timeout_s{};
  std::optional<TimeoutStrategy> timeout_strategy{};
  std::optional<uint32_t> connections{};
  std::string tls_dir{};
  std::optional<MigrationMode> memory_mode{};
  friend bool operator==(const SendMigration&, const SendMigration&) = default;
};

struct ReceiveMigration {
  std::string receiver_url{};
  std::string tls_dir{};
  std::optional<MigrationMode> memory_mode{};
  friend bool operator==(const ReceiveMigration&, const ReceiveMigration&) = default;
};

// --- Answers --------------------------------------------------------------------------------------------------------

struct Ping {
  std::string build_version{};  // "v53.0.0"
  std::string version{};
  int64_t pid = 0;
  std::vector<std::string> features{};  // "kvm", "io_uring"
  friend bool operator==(const Ping&, const Ping&) = default;
};

enum class VmState { kCreated, kRunning, kShutdown, kPaused, kBreakPoint };

struct VmInfo {
  VmConfig config{};
  VmState state = VmState::kCreated;
  uint64_t memory_actual_size = 0;
  friend bool operator==(const VmInfo&, const VmInfo&) = default;
};

// Where a hot-added device is.
struct PciDevice {
  std::string id{};
  std::string bdf{};  // "0000:00:06.0"
  friend bool operator==(const PciDevice&, const PciDevice&) = default;
};

// Device → counter → value. Latencies that were never measured are left out (they come as 2^64-1 and the like).
using Counters = std::map<std::string, std::map<std::string, uint64_t>>;

// --- JSON -----------------------------------------------------------------------------------------------------------

nlohmann::json ToJson(const VmConfig& value);
nlohmann::json ToJson(const DiskConfig& value);
nlohmann::json ToJson(const NetConfig& value);
nlohmann::json ToJson(const FsConfig& value);
nlohmann::json ToJson(const GenericVhostUserConfig& value);
nlohmann::json ToJson(const PmemConfig& value);
nlohmann::json ToJson(const VsockConfig& value);
nlohmann::json ToJson(const VdpaConfig& value);
nlohmann::json ToJson(const DeviceConfig& value);
nlohmann::json ToJson(const UserDeviceConfig& value);
nlohmann::json ToJson(const Resize& value);
nlohmann::json ToJson(const RestoreConfig& value);
nlohmann::json ToJson(const SendMigration& value);
nlohmann::json ToJson(const ReceiveMigration& value);

// Each throws BadAnswer for what is no such thing.
Ping PingFromJson(const std::string& text);
VmInfo VmInfoFromJson(const std::string& text);
VmConfig VmConfigFromJson(const std::string& text);
PciDevice PciDeviceFromJson(const std::string& text);
Counters CountersFromJson(const std::string& text);

}  // namespace mayfly::ch
