#include "cli/emulated_host.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/shell_words.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

extern "C" char** environ;

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kImage = "host";
constexpr const char* kRootTag = "host";
constexpr Bytes kSpareDisk(uint64_t{16} << 20);
constexpr Bytes kHugePage(uint64_t{2} << 20);

std::string ShareTag(size_t index) { return fmt::format("share{}", index); }

fs::path DirectoryOf(const fs::path& share) {
  std::error_code error;
  fs::path directory = fs::canonical(share, error);
  if (error || !fs::is_directory(directory)) {
    throw BadSpec({.summary = fmt::format("host: --share: \"{}\" is no directory", share.string()),
                   .next_step = "name a directory of this machine; it is at the same place in the emulated host"});
  }
  return directory;
}

}  // namespace

MachineSpec SpecOfEmulatedHost(const EmulatedHostOptions& options) {
  constexpr auto kStartTime = std::chrono::seconds(30);
  MachineSpec spec{.cpus = options.cpus, .memory = options.memory, .image = kImage};
  spec.nested_virtualization = true;
  if (options.iommu) {
    spec.iommu = true;
    spec.disks.push_back({.id = "spare", .size = kSpareDisk});
  }
  spec.accelerator = Accelerator::kSoftware;
  spec.driver = "qemu";
  spec.boot_timeout = std::chrono::duration_cast<std::chrono::milliseconds>(Scaled(kStartTime));
  spec.shares.push_back({.tag = kRootTag, .path = "/", .readonly = true});
  for (size_t i = 0; i < options.shares.size(); ++i) {
    spec.shares.push_back({.tag = ShareTag(i), .path = DirectoryOf(options.shares[i]).string()});
  }
  return spec;
}

std::string SetUpScript(const EmulatedHostOptions& options) {
  std::string script = R"sh(set -e
modprobe -a virtiofs overlay kvm-amd tun vhost_vsock vhost_net loop
ip link set lo up
mkdir -p /host/files /host/layer /host/root
mount -t virtiofs host /host/files
mount -t tmpfs -o size=100% layer /host/layer
mkdir /host/layer/upper /host/layer/work
mount -t overlay -o lowerdir=/host/files,upperdir=/host/layer/upper,workdir=/host/layer/work root /host/root
cd /host/root
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm dev/hugepages
mount -t devpts pts dev/pts
mount -t tmpfs shm dev/shm
mount -t hugetlbfs huge dev/hugepages
mount -t tmpfs run run
)sh";
  if (options.hugepages > Bytes()) {
    const uint64_t count = options.hugepages.count() / kHugePage.count();
    // Fewer come when memory is short, and nobody says so.
    script += fmt::format("echo {0} > /proc/sys/vm/nr_hugepages\n[ $(cat /proc/sys/vm/nr_hugepages) = {0} ]\n", count);
  }
  for (size_t i = 0; i < options.shares.size(); ++i) {
    std::string place = internal::ShellWord("/host/root" + DirectoryOf(options.shares[i]).string());
    script += fmt::format("mkdir -p {0}\nmount -t virtiofs {1} {0}\n", place, ShareTag(i));
  }
  // The only virtio disk is the spare one. InEmulatedHost reads the environment.
  if (options.iommu) {
    // The emulated IOMMU does not remap interrupts; nobody in here is a danger to anybody else.
    script += R"sh(modprobe vfio_iommu_type1 allow_unsafe_interrupts=1
modprobe vfio-pci
for device in /sys/bus/pci/devices/*; do
  [ "$(cat $device/vendor)$(cat $device/device)" = 0x1af40x1042 ] || continue
  name=$(basename $device)
  [ -e $device/driver ] && echo $name > $device/driver/unbind
  echo vfio-pci > $device/driver_override
  echo $name > /sys/bus/pci/drivers_probe
  echo "export MAYFLY_VFIO_DEVICE=$name" >> /host/environment
done
test -e /host/environment
)sh";
  }
  return script + "test -c /dev/kvm\n";
}

std::vector<std::string> InEmulatedHost(const std::vector<std::string>& command, const fs::path& directory) {
  // The root is moved, not only changed: user namespaces cannot be made inside a chroot.
  constexpr const char* kEnter = R"sh([ ! -e /host/environment ] || . /host/environment
cd /host/root && mount --move . / && exec chroot . /bin/sh -c '
cd "$0" && exec "$@"' "$@")sh";
  std::vector<std::string> words = {"unshare", "-m", "sh", "-c", kEnter, "sh", directory.string()};
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

std::map<std::string, std::string> EnvironmentInEmulatedHost() {
  // They need not try whether KVM works there.
  std::map<std::string, std::string> environment = {{"MAYFLY_ACCEL", "kvm"}, {kEmulatedHostVariable, "1"}};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view variable = *entry;
    size_t equals = variable.find('=');
    if (equals == 0 || equals == std::string_view::npos) continue;
    environment.emplace(variable.substr(0, equals), variable.substr(equals + 1));
  }
  return environment;
}

Vm BootEmulatedHost(const EmulatedHostOptions& options, const Progress& progress) {
  constexpr int kStarts = 3;
  const MachineSpec spec = SpecOfEmulatedHost(options);
  const std::string set_up = SetUpScript(options);
  for (int start = 1;; ++start) {
    try {
      progress("boot an emulated host");
      Vm vm = Vm::Create(spec, progress);
      vm.Boot();
      progress("give it this machine's files");
      constexpr auto kSetUpTime = std::chrono::seconds(30);
      ExecResult result = vm.Exec({"sh", "-c", set_up}, {.timeout = kSetUpTime});
      if (result.timed_out) throw Timeout({.summary = "the emulated host did not get ready"});
      result.OrThrow();
      return vm;
    } catch (const Timeout&) {
      if (start == kStarts) throw;
      progress("it hangs: begin again");
    }
  }
}

}  // namespace mayfly::cli
