// The program under test: keeps files on a disk of their own.
//
//   volume create DEVICE   makes a file system on the disk and mounts it at /srv/volume
//   volume put NAME        stores standard input under a name: all of it, or nothing
//   volume grow DEVICE     gives the file system all of its disk, while it is in use
//
// All of it needs root. The exit code is the errno of what went wrong, 1 when there is none.
#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

const std::string kVolume = "/srv/volume";

[[noreturn]] void Fail(const std::string& doing) { throw std::system_error(errno, std::generic_category(), doing); }

void Run(std::vector<std::string> command) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  int status = 0;
  errno = posix_spawnp(&child, argv[0], nullptr, nullptr, argv.data(), environ);
  if (errno != 0) Fail("cannot run " + command[0]);
  if (waitpid(child, &status, 0) < 0 || status != 0) throw std::runtime_error(command[0] + " failed");
}

void Create(const std::string& device) {
  Run({"mkfs.ext4", "-q", "-m", "0", device});
  std::filesystem::create_directories(kVolume);
  if (mount(device.c_str(), kVolume.c_str(), "ext4", MS_NODEV | MS_NOSUID | MS_NOEXEC, nullptr) != 0) {
    Fail("cannot mount " + device);
  }
}

void CopyInput(int to) {
  char buffer[1 << 16];
  while (ssize_t count = read(STDIN_FILENO, buffer, sizeof buffer)) {
    if (count < 0) Fail("cannot read");
    for (ssize_t done = 0; done < count;) {
      ssize_t written = write(to, buffer + done, count - done);
      if (written < 0) Fail("cannot store");
      done += written;
    }
  }
  if (fsync(to) != 0) Fail("cannot store");
}

void Put(const std::string& name) {
  std::string fresh = kVolume + "/." + name;
  int file = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0) Fail("cannot store");
  try {
    CopyInput(file);
    std::filesystem::rename(fresh, kVolume + "/" + name);
  } catch (...) {
    unlink(fresh.c_str());
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::string command = argc == 3 ? argv[1] : "";
  if (command == "create") {
    Create(argv[2]);
  } else if (command == "put") {
    Put(argv[2]);
  } else if (command == "grow") {
    Run({"resize2fs", argv[2]});
  } else {
    throw std::runtime_error("usage: volume create DEVICE, volume put NAME, volume grow DEVICE");
  }
} catch (const std::system_error& error) {
  std::cerr << "volume: " << error.what() << '\n';
  return error.code().value();
} catch (const std::exception& error) {
  std::cerr << "volume: " << error.what() << '\n';
  return 1;
}
