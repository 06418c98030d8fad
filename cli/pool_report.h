// What a daemon tells of itself, for people.
#pragma once

#include <mayfly/deadline.h>

#include <nlohmann/json.hpp>
#include <string>

namespace mayfly::cli {

// `status` is the answer to {"op": "status"}, as old as `age`. Some lines, with what is held and waited for aligned.
std::string ReportOf(const nlohmann::json& status, Duration age, bool colour);

}  // namespace mayfly::cli
