// How a machine asks its VMM: shared by the files of ChMachine.
#pragma once

#include <fmt/format.h>
#include <mayfly/errors.h>

#include <chrono>
#include <utility>

#include "drivers/ch/api_error.h"
#include "drivers/ch/ch_machine.h"

namespace mayfly::ch {

bool IsUp(const MachineStatus& status);

template <typename Call>
auto ChMachine::Ask(const char* what, Call call) -> decltype(call(std::declval<Api&>())) {
  try {
    return call(Running(what));
  } catch (VmmDied& error) {
    process_->WaitForExit(Deadline::After(Scaled(std::chrono::seconds(2))));  // how it ended is known then
    error.AddNote(fmt::format("'{}' (ch): {}", name(), status().reason));
    throw;
  } catch (ApiError& error) {
    error.AddNote(fmt::format("on the attempt to {} '{}' (ch)", what, name()));
    throw;
  }
}

}  // namespace mayfly::ch
