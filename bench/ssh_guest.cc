#include "bench/ssh_guest.h"

#include <fmt/format.h>
#include <mayfly/errors.h>
#include <mayfly/internal/child_process.h>
#include <mayfly/sandbox.h>
#include <mayfly/vm.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <regex>
#include <set>

#include "bench/guest.h"

namespace mayfly::bench {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr const char* kPrograms[] = {"dropbear", "ssh", "scp", "ssh-keygen", "ldd"};
using Programs = std::map<std::string, fs::path>;

internal::CommandOutput Run(std::vector<std::string> argv) {
  std::string name = argv.front();
  internal::CommandOutput output = internal::RunCommand(std::move(argv), Scaled(seconds(60)));
  if (!output.status.ok()) {
    throw HostLacks({.summary = fmt::format("{} failed: {}", name, output.status.ToString()), .notes = {output.out}});
  }
  return output;
}

// The libraries of a program, its loader included.
std::set<std::string> LibrariesOf(const fs::path& ldd, const fs::path& program) {
  std::string text = Run({ldd.string(), program.string()}).out;
  std::set<std::string> libraries;
  static const std::regex kPath(R"((/\S+) \(0x)");
  for (std::sregex_iterator match(text.begin(), text.end(), kPath), end; match != end; ++match) {
    libraries.insert((*match)[1]);
  }
  return libraries;
}

void Install(Vm& vm, const Programs& programs) {
  std::set<std::string> files;
  for (const char* name : {"dropbear", "scp"}) {
    const fs::path& program = programs.at(name);
    files.merge(LibrariesOf(programs.at("ldd"), program));
    vm.Upload(program, fmt::format("/bin/{}", name));
  }
  for (const std::string& file : files) vm.Upload(fs::canonical(file), file);
}

class DropbearServer final : public SshServer {
 public:
  DropbearServer(Vm& vm, Programs programs)
      : programs_(std::move(programs)), sandbox_(Sandbox::Create("ssh")), key_(sandbox_.Path("key")) {
    Install(vm, programs_);
    Run({programs_.at("ssh-keygen").string(), "-q", "-t", "ed25519", "-N", "", "-f", key_.string()});
    std::ifstream file(key_.string() + ".pub");
    std::string key{std::istreambuf_iterator<char>(file), {}};
    vm.Exec("mkdir -p /etc/dropbear /root/.ssh && chmod 0700 /root/.ssh").OrThrow();
    vm.WriteFile("/root/.ssh/authorized_keys", key, 0600);
    server_ = vm.Start({"/bin/dropbear", "-F", "-E", "-R", "-s", "-p", "127.0.0.1:22"});
    vm.WaitForPort(22, Scaled(seconds(30)));
    forward_ = vm.ForwardToGuest(22);
    Run(Ssh({"true"}, false));  // makes the server's host key
  }

  ~DropbearServer() override {
    try {
      Run(Common("ssh", "-p", true, {"-O", "exit", "root@127.0.0.1"}));
    } catch (const Error&) {
      // No connection was shared.
    }
  }

  std::vector<std::string> Ssh(const std::vector<std::string>& words, bool shared) const override {
    std::vector<std::string> argv = Common("ssh", "-p", shared, {"-n", "root@127.0.0.1"});
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }

  std::vector<std::string> Scp(const std::string& from, const std::string& to) const override {
    auto place = [](const std::string& path) { return (path.starts_with(':') ? "root@127.0.0.1" : "") + path; };
    return Common("scp", "-P", false, {"-q", "-O", place(from), place(to)});
  }

 private:
  std::vector<std::string> Common(const char* program, const char* port_flag, bool shared,
                                  const std::vector<std::string>& rest) const {
    std::vector<std::string> argv = {programs_.at(program).string(), port_flag, std::to_string(forward_->port()), "-i",
                                     key_.string()};
    for (const char* option : {"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes",
                               "BatchMode=yes", "LogLevel=ERROR", "HostKeyAlgorithms=ssh-ed25519"}) {
      argv.insert(argv.end(), {"-o", option});
    }
    if (shared) {
      argv.insert(argv.end(), {"-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o",
                               "ControlPath=" + sandbox_.Path("control").string()});
    }
    argv.insert(argv.end(), rest.begin(), rest.end());
    return argv;
  }

  const Programs programs_;
  const Sandbox sandbox_;
  const fs::path key_;
  std::optional<GuestProcess> server_;
  std::optional<PortForward> forward_;
};

std::unique_ptr<SshServer>& Shared() {
  static std::unique_ptr<SshServer> server;
  return server;
}

}  // namespace

const SshServer* FindSshServer(std::string* why) {
  if (Shared()) return Shared().get();
  Programs programs;
  for (const char* name : kPrograms) {
    auto path = internal::FindProgram(name);
    if (!path) {
      *why = fmt::format("not measured: this host has no {} (bench/setup)", name);
      return nullptr;
    }
    programs[name] = *path;
  }
  Shared() = std::make_unique<DropbearServer>(Guest(), std::move(programs));
  return Shared().get();
}

void ReleaseSshServer() { Shared().reset(); }

}  // namespace mayfly::bench
