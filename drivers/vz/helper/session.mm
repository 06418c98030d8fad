#include "drivers/vz/helper/session.h"

#include <mayfly/errors.h>

#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "drivers/vz/helper/configuration.h"
#include "drivers/vz/helper/framework_error.h"
#include "drivers/vz/helper/virtual_machine.h"
#include "drivers/vz/protocol.h"

namespace mayfly::vz {
namespace {

using nlohmann::json;

struct Operation {
  std::string_view name;
  void (*run)(VirtualMachine& machine, const json& request, VirtualMachine::Done done);
};
constexpr auto kOperations = std::to_array<Operation>({
    {"start", [](VirtualMachine& machine, const json&, VirtualMachine::Done done) { machine.Start(std::move(done)); }},
    {"stop", [](VirtualMachine& machine, const json&, VirtualMachine::Done done) { machine.Stop(std::move(done)); }},
    {"request_stop",
     [](VirtualMachine& machine, const json&, VirtualMachine::Done done) { machine.RequestStop(std::move(done)); }},
    {"reset", [](VirtualMachine& machine, const json&, VirtualMachine::Done done) { machine.Reset(std::move(done)); }},
    {"pause", [](VirtualMachine& machine, const json&, VirtualMachine::Done done) { machine.Pause(std::move(done)); }},
    {"resume",
     [](VirtualMachine& machine, const json&, VirtualMachine::Done done) { machine.Resume(std::move(done)); }},
    {"balloon",
     [](VirtualMachine& machine, const json& request, VirtualMachine::Done done) {
       machine.SetBalloonTarget(request.at("memory").get<uint64_t>(), std::move(done));
     }},
});

}  // namespace

Session::Session(internal::UniqueFd control) : control_(std::move(control)) {}

Session::~Session() = default;

void Session::Run() {
  Send({{"event", "hello"}, {"protocol", kProtocolVersion}});
  while (auto message = control_.Receive(Deadline::Never())) {
    @autoreleasepool {
      Handle(std::move(*message));
    }
  }
}

void Session::Send(const json& message) {
  constexpr auto kAllowance = std::chrono::seconds(30);
  std::lock_guard lock(sending_);
  try {
    control_.Send(message, Deadline::After(kAllowance));
  } catch (const internal::PeerGone&) {
    // Run sees that the driver is gone.
  }
}

void Session::Answer(const json& id, const json& error) {
  if (error.is_null()) return Send({{"id", id}, {"result", json::object()}});
  Send({{"id", id}, {"error", error}});
}

json Session::Create(internal::Message& message) {
  if (machine_) throw Refusal{BadSpecJson("this helper has its machine already")};
  VZVirtualMachineConfiguration* configuration = ConfigurationOf(message.body, message.descriptors);
  machine_ = std::make_unique<VirtualMachine>(
      configuration, VirtualMachine::Events{
                         .state = [this](const std::string& state) { Send({{"event", "state"}, {"state", state}}); },
                         .stopped =
                             [this](const json& error) {
                               json event = {{"event", "stopped"}};
                               if (!error.is_null()) event["error"] = error;
                               Send(event);
                             }});
  return {{"machine_identifier", json::binary(IdentifierOf(configuration))}};
}

void Session::Handle(internal::Message message) {
  const json id = message.body.value("id", json());
  try {
    std::string name = message.body.at("op");
    if (name == "create") return Send({{"id", id}, {"result", Create(message)}});
    if (!machine_) throw Refusal{BadSpecJson("there is no machine yet: '" + name + "' comes after 'create'")};
    for (const Operation& operation : kOperations) {
      if (operation.name != name) continue;
      return operation.run(*machine_, message.body, [this, id](const json& error) { Answer(id, error); });
    }
    throw Refusal{BadSpecJson("there is no operation '" + name + "'")};
  } catch (const Refusal& refusal) {
    Answer(id, refusal.error);
  } catch (const json::exception& error) {
    Answer(id, BadSpecJson(std::string("a request that cannot be read: ") + error.what()));
  } catch (const std::out_of_range&) {
    Answer(id, BadSpecJson("a request that names a descriptor which did not come with it"));
  }
}

}  // namespace mayfly::vz
