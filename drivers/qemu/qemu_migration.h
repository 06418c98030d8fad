// What saving a machine to a file and moving it to another process have in common.
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/events.h>

#include <nlohmann/json.hpp>

namespace mayfly::internal {

// Saving 3 GiB/s less than this: a guest of some GiB onto a slow disk.
Deadline SaveDeadline();

nlohmann::json MigrationCapabilities(bool ignore_shared);
// The speed is not limited: a file takes what the disk takes.
nlohmann::json MigrationParameters();

// Whether an event says that a migration is over, or that the machine is.
bool IsEndOfMigration(const Event& event);
bool IsGoodEnd(const Event& event);

}  // namespace mayfly::internal
