// A virtual machine of the framework, used on its queue as the framework demands.
//
//   VirtualMachine machine(configuration, {.state = …, .stopped = …});
//   machine.Start([](const nlohmann::json& error) { … });        // null: it runs
//
// Functions may be called on any thread, except the machine's queue; handlers run on that queue. No handler of Events
// runs after the destructor has returned. An exception that the framework raises becomes the error of what raised it.
#pragma once

#import <Virtualization/Virtualization.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace mayfly::vz {

class VirtualMachine {
 public:
  struct Events {
    std::function<void(const std::string& state)> state{};       // "running", at each change
    std::function<void(const nlohmann::json& error)> stopped{};  // the guest ended; null: it powered off
  };
  using Done = std::function<void(const nlohmann::json& error)>;  // null: it is done

  VirtualMachine(VZVirtualMachineConfiguration* _Nonnull configuration, Events events);
  ~VirtualMachine();
  VirtualMachine(const VirtualMachine&) = delete;
  VirtualMachine& operator=(const VirtualMachine&) = delete;

  void Start(Done done);
  void Stop(Done done);  // as a power cut; done when it is stopped already
  void RequestStop(Done done);
  // There is no call for it: stops and starts the same machine.
  void Reset(Done done);
  void Pause(Done done);
  void Resume(Done done);
  void SetBalloonTarget(uint64_t memory, Done done);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mayfly::vz
