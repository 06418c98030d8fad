// Users of the guest, from /etc/passwd and /etc/group. Read by hand: getpwnam of a static glibc loads NSS libraries,
// which have to be of the same version and are not in a small guest at all.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::agent {

struct User {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // gid included
  std::string home;
  std::string shell;
};

// By name or number. A number without an entry is allowed: it has a group of the same number and home "/".
std::optional<User> FindUser(std::string_view name);

}  // namespace mayfly::agent
