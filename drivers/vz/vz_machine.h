// A machine of Virtualization.framework, or of its facsimile, run by the helper mayfly-vz.
//
// Disks are made in the constructor and stay until the destructor; each Boot starts a helper of its own, which ends
// with the guest. States follow what the helper tells and its end:
//
//   Stopped  the guest powered off (the helper is ended then), or Kill
//   Running  Reset; a guest that restarts itself stays Ready until its agent says hello again, as the framework tells
//            nobody of it
//   Failed   the framework or the helper ended it: the reason is the framework's, or how the helper ended
//
// Each event of the helper is in the timeline, under "vz".
#pragma once

#include <mayfly/internal/disk_image.h>
#include <mayfly/machine.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "drivers/vz/helper_probe.h"
#include "drivers/vz/helper_process.h"

namespace mayfly::vz {

class VzMachine final : public Machine {
 public:
  // `spec` has a kernel. Makes the disks: throws BadSpec, HostLacks.
  VzMachine(HelperProbe helper, MachineSpec spec, Sandbox sandbox);
  ~VzMachine() override;

  MachineInfo Info() const override;

  void Boot() override;
  bool Stop(Duration grace) override;
  void Kill() override;
  void Reset() override;
  internal::UniqueFd ConnectAgent() override;

  void Pause() override;
  void Resume() override;
  void PowerButton() override;
  void SetBalloon(Bytes size) override;

 protected:
  std::string WhyUnsupported(Capability capability) const override;

 private:
  void Launch();
  void Start();
  [[noreturn]] void ThrowStartFailed(Error& trouble);
  // Asks the helper of a machine that is up; `what` is in the errors.
  void Ask(const char* what, const std::string& operation, nlohmann::json body = nlohmann::json::object());
  void SetPaused(bool paused);

  // On the helper's thread.
  void OnEvent(const nlohmann::json& event);
  void OnExit(const HelperExit& exit);

  const HelperProbe helper_;
  std::vector<internal::PreparedDisk> disks_;
  std::vector<uint8_t> identifier_;  // of the machine, the same for all its boots
  internal::UniqueFd agent_;
  std::mutex mutex_;                        // of what both threads change
  std::string ending_;                      // guarded by mutex_: why this run's end is expected; empty: it is not
  std::unique_ptr<HelperProcess> process_;  // last: its end tells the members above
};

}  // namespace mayfly::vz
