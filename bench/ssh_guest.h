// An ssh server in the shared guest, to measure beside it what mayfly's agent does.
//
// Debian's dropbear, and scp for copies, are put into the guest with their libraries, and reached through a port that
// mayfly forwards. Everything is made on first use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mayfly::bench {

class SshServer {
 public:
  virtual ~SshServer() = default;
  // `ssh … root@guest WORDS`. `shared`: over one connection that stays open, set up by the first call.
  virtual std::vector<std::string> Ssh(const std::vector<std::string>& words, bool shared) const = 0;
  // `scp … FROM TO`; a path of the guest begins with ':'.
  virtual std::vector<std::string> Scp(const std::string& from, const std::string& to) const = 0;
};

// Null when this host lacks a program for it; `why` then says which.
const SshServer* FindSshServer(std::string* why);
void ReleaseSshServer();

}  // namespace mayfly::bench
