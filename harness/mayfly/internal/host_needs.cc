#include <mayfly/internal/host_needs.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/internal/tap.h>
#include <mayfly/internal/unique_fd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <system_error>

#ifdef __linux__
#include <sched.h>
#endif

namespace mayfly::internal {
namespace {

namespace fs = std::filesystem;
using Reason = std::optional<std::string>;

#ifdef __linux__
constexpr bool kLinux = true;
#else
constexpr bool kLinux = false;
#endif
#ifdef __APPLE__
constexpr bool kMac = true;
#else
constexpr bool kMac = false;
#endif
#if defined(__APPLE__) && defined(__aarch64__)
constexpr bool kAppleSilicon = true;
#else
constexpr bool kAppleSilicon = false;
#endif

Reason Unless(bool has, std::string_view reason) { return has ? Reason() : Reason(reason); }

// A program on PATH or in one of the places where packages put it without.
Reason Program(const std::string& name, std::initializer_list<const char*> places = {}) {
  if (FindProgram(name)) return {};
  bool elsewhere =
      std::any_of(places.begin(), places.end(), [](const char* place) { return access(place, X_OK) == 0; });
  return Unless(elsewhere, fmt::format("{} was not found", name));
}

Reason Device(const char* path) {
  UniqueFd device(open(path, O_RDWR | O_CLOEXEC));
  return Unless(static_cast<bool>(device), fmt::format("{}: {}", path, std::generic_category().message(errno)));
}

// A file of `directory` whose name begins so and goes on with a number.
Reason NumberedDevice(const fs::path& directory, std::string_view prefix) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    std::string name = entry.path().filename();
    if (name.size() > prefix.size() && name.starts_with(prefix) &&
        std::isdigit(static_cast<unsigned char>(name[prefix.size()])) != 0) {
      return {};
    }
  }
  return fmt::format("there is no {}/{}N", directory.string(), prefix);
}

Reason AnyFile(std::string_view what, std::initializer_list<const char*> places) {
  bool there = std::any_of(places.begin(), places.end(), [](const char* place) { return access(place, R_OK) == 0; });
  return Unless(there, fmt::format("{} is in none of {}", what, fmt::join(places, ", ")));
}

// The number after "key:" in a file of lines; 0 when there is none.
uint64_t NumberIn(const char* file, std::string_view key, int base) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key) && line.substr(key.size()).starts_with(':')) {
      return std::strtoull(line.c_str() + key.size() + 1, nullptr, base);
    }
  }
  return 0;
}

Reason HugePages() {
  const char* file = "/proc/meminfo";
  uint64_t free = NumberIn(file, "HugePages_Free", 10);
  return Unless(free > 0, fmt::format("no huge page of {} kB is free ({} of {})", NumberIn(file, "Hugepagesize", 10),
                                      free, NumberIn(file, "HugePages_Total", 10)));
}

Reason NetAdmin() {
  constexpr int kCapNetAdmin = 12;
  bool has = (NumberIn("/proc/self/status", "CapEff", 16) >> kCapNetAdmin & 1) != 0;
  return Unless(has, "this process has no CAP_NET_ADMIN");
}

Reason TwoCpus() {
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  bool has = sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) >= 2;
  return Unless(has, "this process may use one CPU only");
#else
  return Unless(sysconf(_SC_NPROCESSORS_ONLN) >= 2, "this host has one CPU only");
#endif
}

Reason CloudHypervisor() {
  const char* path = std::getenv("MAYFLY_CLOUD_HYPERVISOR");  // NOLINT(concurrency-mt-unsafe): nothing here sets it
  if (path == nullptr || *path == '\0') return Program("cloud-hypervisor");
  return Unless(access(path, X_OK) == 0, fmt::format("MAYFLY_CLOUD_HYPERVISOR: {} cannot be run", path));
}

Reason OnlyTheDriverKnows() { return "the driver's probe has not said that it is there"; }

struct Need {
  std::string_view id;
  Reason (*lacks)();
};
constexpr auto kNeeds = std::to_array<Need>({
    {"linux", [] { return Unless(kLinux, "this is no Linux"); }},
    {"macos", [] { return Unless(kMac, "this is no Mac"); }},
    {"apple_silicon", [] { return Unless(kAppleSilicon, "this is no Mac with Apple silicon"); }},
    {"apple_m3", OnlyTheDriverKnows},
    {"virtualization_entitlement", OnlyTheDriverKnows},
    {"networking_entitlement", OnlyTheDriverKnows},
    {"qemu", [] { return Program("qemu-system-x86_64"); }},
    {"cloud_hypervisor", CloudHypervisor},
    {"ch_guest_debug", OnlyTheDriverKnows},
    {"kvm", [] { return Device("/dev/kvm"); }},
    {"two_cpus", TwoCpus},
    {"hugepages", HugePages},
    {"net_admin", NetAdmin},
    {"namespaces", WhyNoNamespaces},
    {"tun", [] { return Device("/dev/net/tun"); }},
    {"passt", [] { return Program("passt"); }},
    {"virtiofsd", [] { return Program("virtiofsd", {"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"}); }},
    {"vhost_vsock", [] { return Device("/dev/vhost-vsock"); }},
    {"vfio_device", [] { return NumberedDevice("/dev/vfio", ""); }},
    {"vdpa_device", [] { return NumberedDevice("/dev", "vhost-vdpa-"); }},
    {"swtpm", [] { return Program("swtpm"); }},
    {"ovmf",
     [] {
       return AnyFile("UEFI firmware", {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd",
                                        "/opt/homebrew/share/qemu/edk2-x86_64-code.fd"});
     }},
    {"cloudhv_firmware", [] { return AnyFile("CLOUDHV.fd", {"/usr/share/cloud-hypervisor/CLOUDHV.fd"}); }},
});

}  // namespace

std::optional<std::string> WhyHostLacks(std::string_view need) {
  auto found = std::find_if(kNeeds.begin(), kNeeds.end(), [&](const Need& row) { return row.id == need; });
  return found == kNeeds.end() ? Reason() : found->lacks();
}

std::vector<std::string_view> KnownNeeds() {
  std::vector<std::string_view> ids;
  for (const Need& need : kNeeds) ids.push_back(need.id);
  return ids;
}

}  // namespace mayfly::internal
