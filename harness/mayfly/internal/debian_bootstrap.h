// A Debian system as a tar archive, made by mmdebstrap: as root, or by a plain user in a user namespace.
#pragma once

#include <mayfly/internal/image_recipe.h>

#include <filesystem>

namespace mayfly::internal {

// The archive, a file in `scratch`. `modules` is a directory with one kernel's modules ("lib/modules" of its package),
// which are put in. The same packages give the same bytes. Takes minutes. Throws HostLacks with mmdebstrap's last
// words.
std::filesystem::path BootstrapDebian(const BootstrapRecipe& recipe, const std::filesystem::path& modules,
                                      const std::filesystem::path& scratch);

}  // namespace mayfly::internal
