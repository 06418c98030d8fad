#include <fcntl.h>
#include <mayfly/internal/served_process.h>

#include <utility>

namespace mayfly::internal {

ServedProcess::ServedProcess(std::unique_ptr<Process> vmm, std::vector<std::unique_ptr<Process>> servers)
    : servers_(std::move(servers)), vmm_(std::move(vmm)) {
  pid_ = vmm_->pid();
  pidfd_.Reset(fcntl(vmm_->pidfd(), F_DUPFD_CLOEXEC, 3));
}

}  // namespace mayfly::internal
