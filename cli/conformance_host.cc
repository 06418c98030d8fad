#include "cli/conformance_host.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/image.h>
#include <mayfly/internal/installed_program.h>
#include <mayfly/internal/unique_fd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <thread>

#include "cli/commands.h"
#include "cli/emulated_host.h"
#include "cli/guest_streams.h"
#include "cli/output.h"
#include "cli/status_line.h"
#include "cli/stop_on_signal.h"

namespace mayfly::cli {
namespace {

namespace fs = std::filesystem;
using internal::UniqueFd;

constexpr Bytes kMemory(uint64_t{3} << 30);
constexpr Bytes kHugePages(uint64_t{320} << 20);  // for one guest
// What scenarios boot. The emulated host has no network to build them from, and would take hours.
constexpr std::array kImages = {"tiny", "tiny-disk", "tiny-generic"};

void Wake(const UniqueFd& event) {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(event.get(), &one, sizeof one);
}

// Passes a wish to stop on to the command, until it goes.
class StopInGuest {
 public:
  explicit StopInGuest(GuestProcess& process) : thread_([this, &process] { Watch(process); }) {}
  ~StopInGuest() {
    Wake(over_);
    thread_.join();
  }
  StopInGuest(const StopInGuest&) = delete;
  StopInGuest& operator=(const StopInGuest&) = delete;

 private:
  void Watch(GuestProcess& process) {
    std::array<pollfd, 2> events = {{{asked_.get(), POLLIN, 0}, {over_.get(), POLLIN, 0}}};
    while (poll(events.data(), events.size(), -1) < 0 && errno == EINTR) {
    }
    if (events[0].revents != 0) process.Signal(SIGINT);
  }

  UniqueFd asked_{eventfd(0, EFD_CLOEXEC)};
  UniqueFd over_{eventfd(0, EFD_CLOEXEC)};
  StopOnSignal on_signal_{[this] { Wake(asked_); }};
  std::thread thread_;
};

int Run(Vm& vm, const std::vector<std::string>& words) {
  OutputStreams output;
  StartOptions options{.environment = EnvironmentInEmulatedHost()};
  // A TPM is slower there than Cloud Hypervisor waits for it.
  const char* preload = "MAYFLY_CH_TPM_PRELOAD";
  options.environment.emplace(preload, internal::InstalledProgram("patient_tpm.so", preload));
  options.on_output = [&output](Stream stream, std::string_view bytes) { output.Write(stream, bytes); };
  std::vector<std::string> command = {fs::read_symlink("/proc/self/exe").string()};
  command.insert(command.end(), words.begin(), words.end());
  GuestProcess process = vm.Start(InEmulatedHost(command, fs::current_path()), options);
  StopInGuest stop(process);
  ExecResult result = process.Wait(Duration::max());
  bool told = result.signal == 0 && (result.exit_code == 0 || result.exit_code == kFailed);
  return told ? result.exit_code : kUsage;
}

}  // namespace

int RunConformanceInEmulatedHost(const std::vector<std::string>& words, const fs::path& report) {
  // Lives as long as the process: a signal clears it on a thread of its own.
  static StatusLine& status = *new StatusLine(StatusLine::ModeFor(/*verbose=*/false));
  CleanUpOnSignals([](int) { status.Clear(); });
  Progress progress = [](std::string_view step) { status.Step(step); };
  try {
    for (const char* image : kImages) ImageStore().Find(image, progress);
    Vm vm = BootEmulatedHost({.memory = kMemory, .shares = {report}, .hugepages = kHugePages, .iommu = true}, progress);
    status.Clear();
    return Run(vm, words);
  } catch (...) {
    status.Clear();
    throw;
  }
}

}  // namespace mayfly::cli
