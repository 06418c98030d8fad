// What makes copies of one guest differ: clock, random numbers, names and addresses.
//
// Copies go on at the same instruction with the same memory, so they would draw the same random numbers. `quiesce`
// stops every other process before the guest is copied; `fix` is the first thing that a copy is told, and lets them go
// on when the copy has entropy of its own.
//
// Under software emulation a copy is slow at whatever it does first, because the VMM has to translate the code for that
// again: to make, open and close a file takes it 10 ms. So quiesce opens what fix will write to, and fix leaves it open
// until it has been answered.
#include <dirent.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "operations.h"

namespace mayfly::agent {
namespace {

using internal::agent::FileError;
using internal::agent::MakeFileError;

constexpr const char* kRandom = "/dev/random";
constexpr const char* kHostName = "/etc/hostname";
constexpr const char* kMachineId = "/etc/machine-id";

std::vector<pid_t> stopped;  // by quiesce
bool made_own = false;       // in this turn

// A file that fix writes to.
struct Prepared {
  const char* path;
  UniqueFd file{};
  off_t size = 0;

  void Open() {
    struct stat status{};
    file.Reset(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    size = file && fstat(file.get(), &status) == 0 ? status.st_size : 0;
  }
};
std::array prepared = {Prepared{kRandom}, Prepared{kHostName}, Prepared{kMachineId}};

// Open, unless errno tells why not.
Prepared& OpenPrepared(const char* path) {
  Prepared& found =
      *std::find_if(prepared.begin(), prepared.end(), [&](const Prepared& p) { return strcmp(p.path, path) == 0; });
  if (!found.file) found.Open();
  return found;
}

// Kernel threads have no memory of their own; they cannot be stopped and draw nothing that a program sees.
bool IsStoppable(pid_t pid) {
  if (pid <= 1 || pid == getpid()) return false;
  std::string directory = "/proc/" + std::to_string(pid);
  char program = 0;
  if (readlink((directory + "/exe").c_str(), &program, 1) < 0) return false;
  // "pid (name) state …": what is stopped already shall stay so.
  std::string stat = ReadSmallFile((directory + "/stat").c_str());
  size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.size() > name_end + 2 && stat[name_end + 2] != 'T' &&
         stat[name_end + 2] != 't' && stat[name_end + 2] != 'Z';
}

void StopOthers() {
  std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (proc == nullptr) return;
  while (dirent* entry = readdir(proc.get())) {
    pid_t pid = std::atoi(entry->d_name);
    if (IsStoppable(pid) && kill(pid, SIGSTOP) == 0) stopped.push_back(pid);
  }
}

void ContinueOthers() {
  for (pid_t pid : stopped) kill(pid, SIGCONT);
  stopped.clear();
}

int WriteSmallFile(const char* path, const std::string& content) {
  Prepared& to = OpenPrepared(path);
  auto size = static_cast<off_t>(content.size());
  if (!to.file || pwrite(to.file.get(), content.data(), content.size(), 0) != size) return errno;
  return to.size > size && ftruncate(to.file.get(), size) != 0 ? errno : 0;
}

// Has each virtio disk write what it was given: a VMM may keep it until then, where no copy of the disk's file has it.
// File systems keep what they have not given it yet.
void FlushDisks() {
  std::unique_ptr<DIR, int (*)(DIR*)> disks(opendir("/sys/block"), closedir);
  if (disks == nullptr) return;
  while (dirent* entry = readdir(disks.get())) {
    if (strncmp(entry->d_name, "vd", 2) != 0) continue;
    UniqueFd disk(open((std::string("/dev/") + entry->d_name).c_str(), O_RDONLY | O_CLOEXEC));
    if (disk) fsync(disk.get());  // one that cannot has nothing to write
  }
}

// A guest that has no such file yet gets it now: an empty machine-id is what one has that was never booted.
void PrepareFix() {
  for (Prepared& file : prepared) file.Open();
  utsname name{};
  bool nameless = OpenPrepared(kHostName).size == 0 && uname(&name) == 0;
  if (nameless) WriteSmallFile(kHostName, std::string(name.nodename) + "\n");
  for (Prepared& file : prepared) file.Open();  // their sizes have changed
}

// Credits `bytes` as entropy and makes the generator use them at once.
int AddEntropy(std::string_view bytes) {
  const UniqueFd& random = OpenPrepared(kRandom).file;
  if (!random) return errno;
  // A rand_pool_info: bits of entropy, bytes in the buffer, buffer.
  std::array<int, 2 + 128> pool{};
  size_t size = std::min(bytes.size(), (pool.size() - 2) * sizeof(int));
  pool[0] = static_cast<int>(size * 8);
  pool[1] = static_cast<int>(size);
  memcpy(&pool[2], bytes.data(), size);
  if (ioctl(random.get(), RNDADDENTROPY, pool.data()) != 0) return errno;
  return ioctl(random.get(), RNDRESEEDCRNG) != 0 ? errno : 0;
}

bool ParseMac(const char* text, unsigned char* mac) {
  std::array<unsigned, 6> bytes{};
  if (std::sscanf(text, "%x:%x:%x:%x:%x:%x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5]) != 6) {
    return false;
  }
  std::copy(bytes.begin(), bytes.end(), mac);
  return true;
}

// Gives the interface that has address `from` the address `to`.
int ChangeMac(const std::string& from, const std::string& to) {
  std::array<unsigned char, 6> old{};
  ifreq request{};
  if (!ParseMac(from.c_str(), old.data())) return EINVAL;
  UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::unique_ptr<struct if_nameindex, void (*)(struct if_nameindex*)> interfaces(if_nameindex(), if_freenameindex);
  for (struct if_nameindex* i = interfaces.get(); i != nullptr && i->if_index != 0; ++i) {
    request = {};
    strncpy(request.ifr_name, i->if_name, IFNAMSIZ - 1);
    if (ioctl(any.get(), SIOCGIFHWADDR, &request) != 0 || memcmp(request.ifr_hwaddr.sa_data, old.data(), 6) != 0) {
      continue;
    }
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    if (!ParseMac(to.c_str(), reinterpret_cast<unsigned char*>(request.ifr_hwaddr.sa_data))) return EINVAL;
    return ioctl(any.get(), SIOCSIFHWADDR, &request) != 0 ? errno : 0;
  }
  return ENODEV;
}

FileError SetNames(const std::string& hostname, const std::string& machine) {
  if (!hostname.empty()) {
    if (sethostname(hostname.data(), hostname.size()) != 0) return MakeFileError(errno, "sethostname");
    if (int error = WriteSmallFile(kHostName, hostname + "\n")) return MakeFileError(error, kHostName);
  }
  if (!machine.empty()) {
    if (int error = WriteSmallFile(kMachineId, machine + "\n")) return MakeFileError(error, kMachineId);
  }
  return {};
}

// `text`: "OLD NEW\n" for each interface.
FileError SetAddresses(std::string_view text) {
  while (!text.empty()) {
    std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    size_t space = line.find(' ');
    if (space == std::string::npos) return MakeFileError(EINVAL, line);
    if (int error = ChangeMac(line.substr(0, space), line.substr(space + 1))) return MakeFileError(error, line);
  }
  return {};
}

FileError Fix(const Message& message, std::string_view entropy) {
  int64_t time = message.Signed("time");
  timespec now{.tv_sec = time / 1'000'000'000, .tv_nsec = time % 1'000'000'000};
  if (int error = AddEntropy(entropy)) return MakeFileError(error, kRandom);
  if (clock_settime(CLOCK_REALTIME, &now) != 0) return MakeFileError(errno, "clock_settime");
  if (FileError error = SetNames(std::string(message.Text("hostname")), std::string(message.Text("machine")));
      error.number != 0) {
    return error;
  }
  return SetAddresses(message.Text("macs"));
}

}  // namespace

std::unique_ptr<Request> StartQuiesce(Server& server, uint64_t id, const Message& /*message*/,
                                      std::string_view /*body*/) {
  auto request = std::make_unique<Immediate>(server, id);
  StopOthers();
  FlushDisks();
  PrepareFix();
  request->Done();
  return request;
}

FileError MakeOwn(const Message& message, std::string_view entropy) {
  FileError error = Fix(message, entropy);
  ContinueOthers();
  made_own = true;
  return error;
}

void AfterTurn() {
  if (!std::exchange(made_own, false)) return;
  for (Prepared& file : prepared) file.file.Reset();
}

std::unique_ptr<Request> StartFix(Server& server, uint64_t id, const Message& message, std::string_view body) {
  auto request = std::make_unique<Immediate>(server, id);
  FileError error = MakeOwn(message, body);
  error ? request->Fail(error) : request->Done();
  return request;
}

}  // namespace mayfly::agent
