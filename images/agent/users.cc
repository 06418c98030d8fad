#include "users.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "server.h"

namespace mayfly::agent {
namespace {

// Takes the text before the next `separator` off the front.
std::string_view Take(std::string_view& text, char separator) {
  size_t end = text.find(separator);
  std::string_view taken = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return taken;
}

std::optional<uint32_t> Number(std::string_view text) {
  uint32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number == UINT32_MAX) return std::nullopt;
  return number;
}

std::optional<User> ParsePasswdLine(std::string_view line) {
  std::array<std::string_view, 7> fields;
  for (std::string_view& field : fields) field = Take(line, ':');
  auto uid = Number(fields[2]), gid = Number(fields[3]);
  if (fields[0].empty() || !uid || !gid) return std::nullopt;
  return User{.name = std::string(fields[0]),
              .uid = *uid,
              .gid = *gid,
              .groups = {},
              .home = std::string(fields[5]),
              .shell = std::string(fields[6])};
}

void AddGroups(User& user) {
  user.groups = {user.gid};
  std::string content = ReadSmallFile("/etc/group");
  for (std::string_view rest = content; !rest.empty();) {
    std::string_view line = Take(rest, '\n');
    Take(line, ':');
    Take(line, ':');
    auto gid = Number(Take(line, ':'));
    while (gid && !line.empty()) {
      if (Take(line, ',') != user.name) continue;
      if (std::find(user.groups.begin(), user.groups.end(), *gid) == user.groups.end()) user.groups.push_back(*gid);
    }
  }
}

}  // namespace

std::optional<User> FindUser(std::string_view name) {
  auto number = Number(name);
  std::string content = ReadSmallFile("/etc/passwd");
  for (std::string_view rest = content; !rest.empty();) {
    auto user = ParsePasswdLine(Take(rest, '\n'));
    if (!user || (user->name != name && user->uid != number)) continue;
    AddGroups(*user);
    return user;
  }
  if (number)
    return User{
        .name = std::string(name), .uid = *number, .gid = *number, .groups = {*number}, .home = "/", .shell = ""};
  // A guest without /etc/passwd has a root all the same.
  if (name == "root")
    return User{.name = "root", .uid = 0, .gid = 0, .groups = {0}, .home = "/root", .shell = "/bin/sh"};
  return std::nullopt;
}

}  // namespace mayfly::agent
