// A VMM together with the processes that serve it (virtiofsd, swtpm): one Process, which goes wherever the VMM goes.
//
//   std::unique_ptr<Process> vmm = std::make_unique<ServedProcess>(sandbox.Start(…), std::move(servers));
//
// Everything that is asked of it is asked of the VMM; the servers end after the VMM has.
#pragma once

#include <mayfly/internal/process.h>

#include <memory>
#include <optional>
#include <vector>

namespace mayfly::internal {

class ServedProcess final : public Process {
 public:
  ServedProcess(std::unique_ptr<Process> vmm, std::vector<std::unique_ptr<Process>> servers);

  std::optional<ExitStatus> Poll() override { return vmm_->Poll(); }
  void Signal(int signal) override { vmm_->Signal(signal); }

 private:
  std::vector<std::unique_ptr<Process>> servers_;
  std::unique_ptr<Process> vmm_;  // goes first
};

}  // namespace mayfly::internal
